"""Optimizers: state bytes a parameter, and what a step reads and writes.

State counts the moments only; the fp32 master copy is apart, because it is a choice. Sources by entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from planner.errors import unknown


@dataclass(frozen=True)
class Optimizer:
    """One optimizer.

    Attributes
    ----------
    state_bytes : float          [byte/parameter] of moments for matrix parameters
    factored : bool              second moment kept as row and column sums (Adafactor): state is per row + column
    matrices_only : bool         covers hidden matrices only; embeddings, head and norms use AdamW (Muon)
    flops : float                [FLOP/parameter] of the update; Muon's Newton–Schulz is counted apart
    master : bool                an fp32 master copy is kept when weights are 16-bit
    width : float                [byte] of a moment's value
    """

    name: str
    state_bytes: float
    source: str
    factored: bool = False
    matrices_only: bool = False
    flops: float = 10.0
    master: bool = True
    width: float = 4.0

    @property
    def plain(self) -> Optimizer:
        """The same without fp32 copies of 16-bit weights: PyTorch's states follow the dtype of their parameter
        (torch.optim, ``zeros_like(p)``); 8-bit states stay."""
        width = min(self.width, 2.0)
        return replace(self, state_bytes=self.state_bytes * width / self.width, master=False, width=width)


OPTIMIZERS: Mapping[str, Optimizer] = {
    o.name: o
    for o in (
        Optimizer("sgd", 0.0, "no state; torch.optim.SGD, momentum=0", flops=2.0),
        Optimizer("momentum", 4.0, "one fp32 buffer; torch.optim.SGD, momentum>0", flops=4.0),
        Optimizer("adam", 8.0, "two fp32 moments; Kingma & Ba 2014, https://arxiv.org/abs/1412.6980"),
        Optimizer("adamw", 8.0, "two fp32 moments; Loshchilov & Hutter 2017, https://arxiv.org/abs/1711.05101"),
        Optimizer("adam8bit", 2.0 + 2 * 4.0 / 256, "two 8-bit moments, one fp32 scale a block of 256; "
                  "Dettmers et al. 2021, https://arxiv.org/abs/2110.02861; bitsandbytes block size 256", width=1.0),
        Optimizer("adamw-bf16", 4.0, "two bf16 moments: torch states follow the parameter dtype", master=False,
                  width=2.0),
        Optimizer("rmsprop", 4.0, "one fp32 second moment; torch.optim.RMSprop, momentum=0, centered=False", flops=6.0),
        Optimizer("adagrad", 4.0, "one fp32 sum of squares; Duchi et al. 2011; torch.optim.Adagrad", flops=5.0),
        Optimizer("adafactor", 0.0, "row and column second moments, no first moment; Shazeer & Stern 2018, "
                  "https://arxiv.org/abs/1804.04235", factored=True, flops=12.0),
        Optimizer("lion", 4.0, "one fp32 momentum; Chen et al. 2023, https://arxiv.org/abs/2302.06675", flops=6.0),
        Optimizer("muon", 4.0, "one fp32 momentum for hidden matrices, AdamW for the rest; Jordan et al. 2024, "
                  "https://kellerjordan.github.io/posts/muon/", matrices_only=True, flops=6.0),
    )
}  # fmt: skip
NEWTON_SCHULZ_STEPS = 5  # Muon's default, https://kellerjordan.github.io/posts/muon/


def optimizer(name: str, *, where: str = "") -> Optimizer:
    """Look an optimizer up by name; an unknown one is refused with the allowed names."""
    found = OPTIMIZERS.get(name.lower())
    if found is None:
        raise unknown("optimizer", name, OPTIMIZERS, where=where)
    return found


def state_bytes(opt: Optimizer, *, matrices: float, others: float, factors: float) -> float:
    """Moment bytes of a set of parameters [byte].

    Parameters
    ----------
    matrices, others : parameters in hidden matrices, and elsewhere (embeddings, head, norms, biases)
    factors : rows + columns summed over all matrices, and vectors whole: what a factored second moment keeps in fp32
    """
    if opt.factored:
        return opt.width * factors
    if opt.matrices_only:
        return opt.state_bytes * matrices + OPTIMIZERS["adamw"].state_bytes * opt.width / 4.0 * others
    return opt.state_bytes * (matrices + others)
