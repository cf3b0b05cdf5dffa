"""Machines of many kinds, as the package sees them; the GPUs as CUDA describes them."""

import dataclasses

from helpers.server.machine import GIB, Gpu, Machine
from helpers.server.probe import Engine

CPU_BF16 = Machine(
    "Linux", "x86_64", "AMD", frozenset({"avx2", "avx512_bf16"}), (0, 1), 16 * GIB, 12 * GIB, GIB
)
CPU_AMX = dataclasses.replace(CPU_BF16, cpu_flags=frozenset({"avx2", "amx_bf16"}))
CPU_OLD = dataclasses.replace(CPU_BF16, cpu_flags=frozenset({"avx2"}))
ARM = dataclasses.replace(CPU_BF16, architecture="aarch64", cpu_flags=frozenset({"asimd"}))
ARM_BF16 = dataclasses.replace(ARM, cpu_flags=frozenset({"asimd", "bf16"}))
CPU_ENGINE = Engine("/env/bin/python", "0.32.0+cpu", True, True, None)


def gpu(name, capability, total, free, index=0):
    """A GPU as torch.cuda describes it; memory in GiB, None where nobody tells."""
    sizes = [None if size is None else int(size * GIB) for size in (total, free)]
    return Gpu(index, f"GPU-{name.replace(' ', '-').lower()}-{index}", name, capability, *sizes)


T4 = gpu("Tesla T4", (7, 5), 14.56, 14.45)
L4 = gpu("NVIDIA L4", (8, 9), 22.03, 21.8)
A10G = gpu("NVIDIA A10G", (8, 6), 21.99, 21.7)
A100_40 = gpu("NVIDIA A100-SXM4-40GB", (8, 0), 39.39, 38.9)
A100_80 = gpu("NVIDIA A100-SXM4-80GB", (8, 0), 79.25, 78.8)
H100 = gpu("NVIDIA H100 80GB HBM3", (9, 0), 79.11, 78.6)
B200 = gpu("NVIDIA B200", (10, 0), 178.4, 177.7)
RTX_3060 = gpu("NVIDIA GeForce RTX 3060", (8, 6), 11.75, 10.9)
RTX_5090 = gpu("NVIDIA GeForce RTX 5090", (12, 0), 31.36, 30.1)
LAPTOP = gpu("NVIDIA GeForce RTX 3060 Laptop GPU", (8, 6), 5.80, 5.1)
SLICE = dataclasses.replace(gpu("H100 MIG 1g.10gb", (9, 0), 9.75, 9.7), uuid="MIG-377e0049-16")
GB10 = gpu("NVIDIA GB10", (12, 1), None, None)
FULL_T4 = gpu("Tesla T4", (7, 5), 14.56, 2.0)
BRIMFUL = gpu("NVIDIA H100 80GB HBM3", (9, 0), 79.11, 0.5)
ROOMY = [T4, L4, A10G, A100_40, A100_80, H100, B200, RTX_3060, RTX_5090, LAPTOP, SLICE, GB10]


def engine(*gpus, fault=""):
    """A GPU build, and what CUDA tells it."""
    return Engine("/env/bin/python", "0.32.0", False, True, None, gpus, fault)
