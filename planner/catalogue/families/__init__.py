"""One adapter a family group: a Hugging Face config in, typed layers out."""
