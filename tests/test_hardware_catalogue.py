"""The hardware catalogue: every file, the figures people know, the names they write, the faults they make."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import planner
from planner.catalogue import reader
from planner.catalogue.check import check_hardware
from planner.catalogue.fields import ACCELERATOR_FIELDS, CLASSES, filled
from planner.catalogue.loader import (
    accelerator_ids,
    built_in,
    load_accelerator,
    load_system,
    resolve_hardware,
    system_ids,
    variants,
)
from planner.errors import BadInputError, CatalogueError
from planner.precision import DTYPE_NAMES

ACCELERATORS, SYSTEMS = accelerator_ids(), system_ids()


@pytest.mark.parametrize("name", ACCELERATORS)
def test_accelerator_file_loads(name: str) -> None:
    chip, system = resolve_hardware(name)
    assert chip.id == name and system.accelerator == name
    assert set(chip.peak_flops) <= set(DTYPE_NAMES) and chip.efficiency_class in CLASSES
    assert 1e12 < max(chip.peak_flops.values()) < 1e17
    assert 5e10 < chip.bandwidth < 1e14 and 2e9 < chip.capacity < 1e12
    assert {f"peak_flops.{d}" for d in chip.peak_flops} <= chip.provenance.keys()
    assert all(p.source for p in chip.provenance.values())


@pytest.mark.parametrize("name", SYSTEMS)
def test_system_file_loads(name: str) -> None:
    chip, system = resolve_hardware(name)
    assert system.id == name and system == load_system(name)
    assert chip.id in ACCELERATORS
    assert system.scale_up is not None and system.scale_up.domain >= system.devices_per_node


def test_catalogue_is_wide_enough() -> None:
    assert len(ACCELERATORS) >= 60 and len(SYSTEMS) >= 25


def test_every_check_of_the_catalogue_holds() -> None:
    assert check_hardware() == []


def test_no_figure_is_unsourced_or_from_memory() -> None:
    for path in sorted(built_in().rglob("*.yaml")):
        text = path.read_text(encoding="utf-8").lower()
        assert "from memory" not in text and "unverified" not in text, path


@pytest.mark.parametrize(
    ("name", "dtype", "peak", "bandwidth"),
    [
        # NVIDIA data sheets, dense; MI250X, TPU and Trainium by the device that software sees
        ("h100-sxm5-80gb", "bf16", 989.4e12, 3.35e12),
        ("h100-sxm5-80gb", "fp8", 1978.9e12, 3.35e12),
        ("a100-sxm4-80gb", "bf16", 312e12, 2.039e12),
        ("a100-sxm4-40gb", "fp16", 312e12, 1.555e12),
        ("b200-sxm-180gb", "nvfp4", 9e15, 8e12),
        ("mi300x-192gb", "bf16", 1307.4e12, 5.3e12),
        ("mi250x-64gb", "bf16", 191.5e12, 1.638e12),
        ("tpu-v5e-16gb", "bf16", 197e12, 819e9),
        ("tpu-v3-16gb", "bf16", 61.5e12, 450e9),
        ("rtx-4090-24gb", "fp16", 165.2e12, 1.008e12),
        ("l40s-48gb", "bf16", 362e12, 864e9),
    ],
)
def test_known_figures(name: str, dtype: str, peak: float, bandwidth: float) -> None:
    chip = load_accelerator(name)
    assert chip.peak_flops[dtype] == pytest.approx(peak, rel=1e-9)
    assert chip.bandwidth == pytest.approx(bandwidth, rel=1e-9)


def test_links_are_one_way_and_per_device() -> None:
    assert load_accelerator("h100-sxm5-80gb").scale_up.bandwidth == 450e9  # type: ignore[union-attr]
    system = load_system("dgx-h100")
    assert system.scale_up is not None and system.scale_out is not None
    assert (system.scale_up.bandwidth, system.scale_up.domain) == (450e9, 8)
    assert system.scale_out.bandwidth == 50e9 and system.scale_up.in_network_reduction
    a100 = load_system("dgx-a100-80gb").scale_up
    assert a100 is not None and not a100.in_network_reduction
    mesh = load_system("mi300x-platform").scale_up
    assert mesh is not None and (mesh.bandwidth, mesh.per_peer) == (448e9, 64e9)


def test_dies_and_cores_are_devices() -> None:
    for name in ("mi250x-64gb", "tpu-v3-16gb", "tpu-v7x-96gb", "trainium1-16gb"):
        chip = load_accelerator(name)
        assert chip.device_is in ("die", "core") and chip.devices_per_package == 2
    assert load_accelerator("tpu-v4-32gb").device_is == "package"


def test_fp8_is_not_claimed_where_there_is_none() -> None:
    assert "fp8" not in load_accelerator("a100-sxm4-80gb").peak_flops
    assert "nvfp4" not in load_accelerator("h100-sxm5-80gb").peak_flops
    assert "bf16" not in load_accelerator("v100-sxm2-16gb").peak_flops


# labels as published measurements print them: accelerator, and the system where it is not the default one
LABELS = [
    ("3080 Ti 12GB", "rtx-3080-ti-12gb", None),
    ("3090 24GB", "rtx-3090-24gb", None),
    ("4090", "rtx-4090-24gb", None),
    ("4090 24GB", "rtx-4090-24gb", None),
    ("A10", "a10-24gb", None),
    ("A100 80GB", "a100-sxm4-80gb", "dgx-a100-80gb"),
    ("A100 80GB capped", "a100-sxm4-80gb", None),
    ("A100 PCIe (SimuMax)", "a100-pcie-80gb", None),
    ("A100-40GB", "a100-sxm4-40gb", "dgx-a100-40gb"),
    ("A100-40GB (resource tables)", "a100-sxm4-40gb", None),
    ("A100-40GB SXM (DGX-A100)", "a100-sxm4-40gb", "dgx-a100-40gb"),
    ("A100-80GB", "a100-sxm4-80gb", None),
    ("A100-80GB SXM", "a100-sxm4-80gb", None),
    ("A100-80GB SXM (DGX SuperPOD)", "a100-sxm4-80gb", "dgx-a100-80gb"),
    ("A100-80GB SXM (form factor not stated)", "a100-sxm4-80gb", None),
    ("A100-80GB SXM (power limited 330W)", "a100-sxm4-80gb", None),
    ("A100-80GB SXM4 (Jean Zay)", "a100-sxm4-80gb", "jean-zay-a100-80gb"),
    ("A100-SXM-80GB", "a100-sxm4-80gb", None),
    ("A100-SXM4-40GB", "a100-sxm4-40gb", None),
    ("A100-SXM4-80GB", "a100-sxm4-80gb", None),
    ("A10G", "a10g-24gb", None),
    ("A6000", "rtx-a6000-48gb", None),
    ("A800 80GB", "a800-sxm4-80gb", None),
    ("AMD Instinct MI100", "mi100-32gb", None),
    ("AMD Instinct MI210", "mi210-64gb", None),
    ("AWS Trainium1 (trn1.32xlarge: 16 chips, 32 NeuronCores)", "trainium1-16gb", "aws-trn1-32xlarge"),
    ("B200", "b200-sxm-180gb", "dgx-b200"),
    ("B200 (row printed H200, text says B200)", "b200-sxm-180gb", None),
    ("B200 SXM", "b200-sxm-180gb", None),
    ("B200-SXM", "b200-sxm-180gb", None),
    ("B200-SXM-180GB", "b200-sxm-180gb", None),
    ("B300", "b300-sxm-288gb", None),
    ("B300-SXM", "b300-sxm-288gb", None),
    ("GB200", "gb200-186gb", "gb200-nvl72"),
    ("GB200 NVL72", "gb200-186gb", "gb200-nvl72"),
    ("GB300", "gb300-288gb", "gb300-nvl72"),
    ("Gaudi2", "gaudi2-96gb", None),
    ("Gaudi3", "gaudi3-128gb", None),
    ("H100 80GB", "h100-sxm5-80gb", "dgx-h100"),
    ("H100 80GB (skill page)", "h100-sxm5-80gb", None),
    ("H100 96GB HBM2e", "h100-sxm5-96gb-hbm2e", None),
    ("H100-95GB HBM2e SXM (lower TDP)", "h100-sxm5-96gb-hbm2e", None),
    ("H100-96GB HBM2e SXM (500W cap, Grand Teton)", "h100-sxm5-96gb-hbm2e", "grand-teton-h100-96gb"),
    ("H100-80GB", "h100-sxm5-80gb", None),
    ("H100-80GB SXM", "h100-sxm5-80gb", None),
    ("H100-SXM-80GB", "h100-sxm5-80gb", None),
    ("H100-SXM5-80GB", "h100-sxm5-80gb", None),
    ("H200 SXM", "h200-sxm5-141gb", None),
    ("H200-SXM-141GB", "h200-sxm5-141gb", "hgx-h200"),
    ('H200-SXM-141GB (table prints "131GB")', "h200-sxm5-141gb", None),
    ("H800 (DeepEP low-latency, CX7)", "h800-sxm5-80gb", None),
    ("L40S 48GB", "l40s-48gb", None),
    ("L40S-48GB", "l40s-48gb", None),
    ("M1 7\u2011Core GPU 8GB", "apple-m1-8gb", None),
    ("M2 Ultra 76-Core GPU 192GB", "apple-m2-ultra-192gb", None),
    ("M3 Max 40\u2011Core GPU 64GB", "apple-m3-max-64gb", None),
    ("MI250X (one GCD)", "mi250x-64gb", None),
    ("MI300X", "mi300x-192gb", None),
    ("MI325X", "mi325x-256gb", None),
    ("MI355X", "mi355x-288gb", None),
    ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb", None),
    ("NVIDIA A100-PCIE-40GB", "a100-pcie-40gb", None),
    ("NVIDIA GeForce RTX 4090", "rtx-4090-24gb", None),
    ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb", None),
    ("NVIDIA L4", "l4-24gb", None),
    ("NVIDIA L40S", "l40s-48gb", None),
    ("RTX 4000 Ada 20GB", "rtx-4000-ada-20gb", None),
    ("RTX 4090", "rtx-4090-24gb", None),
    ("RTX 5000 Ada 32GB", "rtx-5000-ada-32gb", None),
    ("RTX 6000 Ada 48GB", "rtx-6000-ada-48gb", None),
    ("RX 7900 XTX", "rx-7900-xtx-24gb", None),
    ("T4", "t4-16gb", None),
    ("TPU v3", "tpu-v3-16gb", None),
    ("TPU v5e", "tpu-v5e-16gb", None),
    ("TPU v6e (Trillium)", "tpu-v6e-32gb", None),
    ("TPU7x (Ironwood)", "tpu-v7x-96gb", None),
    ("Tesla T4", "t4-16gb", None),
    ("Tesla V100-PCIE-32GB", "v100-pcie-32gb", None),
    ("V100-32GB SXM3 (DGX-2)", "v100-sxm3-32gb", "dgx-2"),
    ("V100-32GB SXM3 (DGX-2H, 450W)", "v100-sxm3-32gb", None),
    ("V100-SXM2-16GB", "v100-sxm2-16gb", None),
    ("a100_sxm", "a100-sxm4-80gb", None),
    ("h100_sxm", "h100-sxm5-80gb", None),
    ("h100_dgx", "h100-sxm5-80gb", "dgx-h100"),
    ("h200_sxm", "h200-sxm5-141gb", None),
    ("b200_sxm", "b200-sxm-180gb", None),
    ("b300_sxm", "b300-sxm-288gb", None),
    ("gb200", "gb200-186gb", None),
    ("gb300", "gb300-288gb", None),
    ("l40s", "l40s-48gb", None),
    ("a40", "a40-48gb", None),
    ("rtx_pro_6000_server", "rtx-pro-6000-96gb", None),
    ("aws p4d.24xlarge", "a100-sxm4-40gb", "aws-p4d-24xlarge"),
]


@pytest.mark.parametrize(("label", "accelerator", "system"), LABELS)
def test_published_label_means_that_very_variant(label: str, accelerator: str, system: str | None) -> None:
    for spelling in (label, label.upper(), f"  {label} "):
        chip, node = resolve_hardware(spelling)
        assert chip.id == accelerator
        assert system in (None, node.id)


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("A100", ["a100-sxm4-40gb", "a100-sxm4-80gb", "a100-pcie-80gb"]),
        ("a100", ["ambiguous"]),
        ("h100", ["h100-sxm5-80gb", "h100-pcie-80gb", "h100-nvl-94gb"]),
        ("GH200", ["gh200-96gb", "gh200-144gb"]),
        ("A100 (PCIe box, size not stated)", ["a100-pcie-40gb", "a100-pcie-80gb"]),
        ("h100_vidur", ["h100"]),
        ("h100-sxm5-80g-b", ["h100-sxm5-80gb"]),
        ("RTX 4090 (48 GB mod)", ["rtx-4090-24gb"]),
        ("", ["unknown"]),
        ("40GB GPU", ["unknown"]),
        ("24GB GPU", ["unknown"]),
        ("80GB GPU (total_gpu_memory 79.22GiB; H100/A100 not named)", ["unknown"]),
    ],
)
def test_unclear_name_is_refused_with_the_nearest(label: str, told: list[str]) -> None:
    with pytest.raises(BadInputError) as error:
        resolve_hardware(label)
    for name in told:
        assert name in str(error.value)


def test_accelerator_without_a_node_gets_one_by_rule() -> None:
    chip, system = resolve_hardware("l4-24gb")
    assert system.id == "generic-l4-24gb" and system.scale_out is None and system.devices_per_node == 8
    assert system.scale_up is not None and system.scale_up.topology == "pcie"
    assert system.provenance["scale_up"].basis == "assumed"
    assert load_system("l4-24gb") == system
    alone = load_system("apple-m2-ultra-192gb")
    assert alone.devices_per_node == 1 and alone.scale_up is None
    assert chip.host is not None


def test_one_look_up_parses_one_accelerator_and_one_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder, name in (
        ("accelerators", "h100-sxm5-80gb"),
        ("accelerators", "l40s-48gb"),
        ("systems", "dgx-h100"),
    ):
        source = next((built_in() / folder).rglob(f"{name}.yaml"))
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / source.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    parsed: list[str] = []
    real = reader.read_document
    monkeypatch.setattr(reader, "read_document", lambda p, f: (parsed.append(p.name), real(p, f))[1])
    resolve_hardware("h100-80gb", [tmp_path])
    assert parsed == ["h100-sxm5-80gb.yaml", "dgx-h100.yaml"]


MINE = """\
id: mine-1gb
name: Mine
vendor: me
aliases: [my-chip]
efficiency_class: nvidia-ada
device_is: package
peak_flops:
  bf16: {value: 10 TFLOP/s, source: me}
memory:
  - name: DDR
    kind: device
    marketed: {value: 1 GiB, source: me}
    capacity: {value: 1 GiB, source: me}
    bandwidth: {value: 100 GB/s, source: me}
efficiency:
  kernels:
    matmul:
      bf16: {compute: 0.8, memory: 0.7, overhead: 3.5 us, sharpness: 1.8, source: me, basis: measured}
prices:
  - {usd: 1.5 USD/hour, provider: me, kind: on-demand, date: 2026-01-02, source: me}
sources:
  me: measured here
"""


@pytest.mark.parametrize("place", ["mine-1gb.yaml", "accelerators/mine-1gb.yaml", "accelerators/me/mine-1gb.yaml"])
def test_own_folder_flat_or_not(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(MINE, encoding="utf-8")
    chip = load_accelerator("My Chip", [tmp_path])
    assert chip.id == "mine-1gb" and chip.peak_flops == {"bf16": 10e12}
    kernel = chip.kernels["matmul"]["bf16"]
    assert (kernel.compute, kernel.overhead, kernel.provenance.basis) == (0.8, 3.5e-6, "measured")
    assert kernel.provenance.source == "measured here" and chip.prices[0].source == "measured here"
    assert chip.prices[0].usd_per_hour == 1.5 and chip.prices[0].date == "2026-01-02"
    monkeypatch.setenv("PLANNER_HARDWARE", str(tmp_path))
    assert load_accelerator("mine-1gb") == chip
    assert check_hardware([tmp_path]) == []


def test_own_file_takes_the_place_of_a_built_in_one(tmp_path: Path) -> None:
    text = MINE.replace("id: mine-1gb", "id: l40s-48gb")
    (tmp_path / "l40s-48gb.yaml").write_text(text, encoding="utf-8")
    assert load_accelerator("l40s", [tmp_path]).name == "Mine"


def test_faults_of_a_file_are_told_together_with_their_lines(tmp_path: Path) -> None:
    broken = (
        MINE.replace("name: Mine", "name: Mine\nname: Yours\nvendr: me")
        .replace("10 TFLOP/s, source: me", "989e12, source: mee")
        .replace("1 GiB, source: me}\n    capacity", "1, source: me}\n    capacity")
        .replace("device_is: package", "device_is: chip")
        .replace("date: 2026-01-02", "date: soon")
        .replace("  bf16: {value", "  bf17: {value: 1 TFLOP/s, source: me}\n  bf16: {value")
    )
    path = tmp_path / "mine-1gb.yaml"
    path.write_text(broken, encoding="utf-8")
    with pytest.raises(CatalogueError) as error:
        load_accelerator("mine-1gb", [tmp_path])
    lines = {int(f.split(":")[1]): f for f in error.value.faults}
    assert all(f.startswith(f"{path}:") for f in error.value.faults)
    assert "duplicate key 'name'" in lines[3] and "unknown key 'vendr'; nearest: vendor" in lines[4]
    assert "device_is: 'chip' is not one of package, die, core" in lines[8]
    assert "bf17" in lines[10] and "bf16" in lines[10]
    told = "\n".join(error.value.faults)
    assert "missing vendor" in told or "vendor" in told
    assert "989e12" in told and "has no unit" in told and "'mee'" in told
    assert "'soon' is not a date" in told
    assert len(error.value.faults) >= 7


def test_a_file_that_is_not_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "accelerators" / "odd-1gb.yaml"
    path.parent.mkdir()
    path.write_text("id: odd-1gb\nname: [open\n", encoding="utf-8")
    with pytest.raises(CatalogueError, match=r"odd-1gb\.yaml:\d+: not YAML"):
        load_accelerator("odd-1gb", [tmp_path])


def test_check_finds_figures_that_disagree(tmp_path: Path) -> None:
    text = MINE.replace(
        "memory:\n",
        "  fp8: {value: 40 TFLOP/s, source: me}\n"
        "vector_flops: {value: 1 TFLOP/s, source: me}\n"
        "vector_unit: {lanes: 1000, clock: {value: 1 GHz, source: me}}\n"
        "links:\n"
        "  scale_up: {name: x, bandwidth: {value: 900 GB/s, source: me}, "
        "bidirectional: {value: 900 GB/s, source: me}}\n"
        "default_system: nowhere\n"
        "memory:\n",
    ).replace("capacity: {value: 1 GiB", "capacity: {value: 2 GiB")
    (tmp_path / "mine-1gb.yaml").write_text(text + "  idle: nobody reads this\n", encoding="utf-8")
    told = "\n".join(f for f in check_hardware([tmp_path]) if "mine-1gb" in f)
    for fault in (
        "fp8/bf16",
        "check vector",
        "scale_up/bidirectional",
        "nowhere",
        "check capacity",
        "'idle'",
    ):
        assert fault in told
    waived = text.replace(
        "memory:\n",
        "checks: {waive: [{check: fp8/bf16, reason: it is so}, {check: int8/bf16, reason: cut}]}\nmemory:\n",
    )
    (tmp_path / "mine-1gb.yaml").write_text(waived, encoding="utf-8")
    told = "\n".join(check_hardware([tmp_path]))
    assert "fp8 is" not in told and "'int8/bf16' is not broken" in told


def test_check_finds_two_files_with_one_name(tmp_path: Path) -> None:
    (tmp_path / "mine-1gb.yaml").write_text(MINE.replace("my-chip", "l40s-48gb"), encoding="utf-8")
    assert any("also a name of" in f for f in check_hardware([tmp_path]))


def test_check_refuses_an_efficiency_that_is_no_fraction(tmp_path: Path) -> None:
    (tmp_path / "mine-1gb.yaml").write_text(MINE.replace("compute: 0.8", "compute: 80"), encoding="utf-8")
    assert any("matmul.bf16.compute: 80 is outside 0.001 … 2" in f for f in check_hardware([tmp_path]))


def test_missing_folder_is_refused() -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        load_accelerator("l40s", ["/no/such/folder"])


def test_field_table_is_current() -> None:
    readme = (built_in() / "README.md").read_text(encoding="utf-8")
    assert readme == filled(readme)


def test_files_are_plain_yaml_with_one_line_of_aliases() -> None:
    for path in sorted((built_in() / "accelerators").rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        names = {f.name for f in ACCELERATOR_FIELDS}
        loaded = yaml.safe_load(text)
        assert set(loaded) <= names
        assert tuple(loaded.get("aliases", ())) == load_accelerator(path.stem).aliases


# Variants


@pytest.mark.parametrize("name", ["h100", "a100", "h200", "v100", "gh200"])
def test_a_chip_of_several_variants_is_refused_with_them(name: str) -> None:
    with pytest.raises(BadInputError) as error:
        resolve_hardware(name)
    listed = [i for i in accelerator_ids() if i.startswith(f"{name}-")]
    assert len(listed) > 1 and all(i in str(error.value) for i in listed) and "ambiguous" in str(error.value)


def test_an_alias_that_decides_says_the_others() -> None:
    for name, others in (("a100-40gb", ("a100-pcie-40gb",)), ("H100 80GB", ("h100-pcie-80gb",)), ("rtx 4080", ()),
                         ("a100-sxm4-40gb", ()), ("mi300x", ())):  # fmt: skip
        assert variants(name) == others
    e = planner.estimate(model="gpt2", hardware="a100-40gb", task="decode")
    assert any("a100-40gb' could also be a100-pcie-40gb" in a for a in e.assumed)
