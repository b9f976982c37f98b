"""Every hand-written pass: what a layer of `hepml.nn` defines, computed faster or in less memory, behind
one gate; `disabled()` is the switch."""

from hepml.nn.kernels.gate import KERNELS, Kernel, allows, disabled

__all__ = ["KERNELS", "Kernel", "allows", "disabled"]
