"""System metrics through the journal: processor, memory, and the accelerator where there is one, under the
names MLflow shows them by."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable

import psutil

_log = logging.getLogger("hepml.tracking")
MEGABYTE = 1e6


class Sampler:
    """Takes a sample after a second, then every `interval` seconds, and a last one when it stops.

    Args:
        report: is given {name: value} and the sample's number, in the sampler's own thread.
        interval: seconds.
    """

    def __init__(self, report: Callable[[dict[str, float], int], None], interval: float) -> None:
        self.step = 0
        self._report, self._interval = report, interval
        self._stop = threading.Event()
        self._process = psutil.Process()
        self._thread = threading.Thread(target=self._run, name="hepml-system-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the sampling; returns when the last sample is reported, or after 2 s."""
        self._stop.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        try:
            psutil.cpu_percent()  # the first call of a thread has nothing to compare with
            self._process.cpu_percent()
            pause = min(1.0, self._interval)
            while not self._stop.wait(pause):
                self._sample()
                pause = self._interval
            self._sample()
        except Exception as error:  # a run never ends because its temperature could not be taken
            _log.warning("system metrics stop: %s", error)

    def _sample(self) -> None:
        self._report(sample(self._process), self.step)
        self.step += 1


def sample(process: psutil.Process) -> dict[str, float]:
    """Utilisation in per cent, memory in megabytes: of the machine, of this process, and of its CUDA
    devices."""
    memory = psutil.virtual_memory()
    values = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_cpu_percentage": process.cpu_percent(),
        "system/process_memory_megabytes": process.memory_info().rss / MEGABYTE,
    }
    return values | _accelerators()


def _accelerators() -> dict[str, float]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    values: dict[str, float] = {}
    for i in range(torch.cuda.device_count()):
        allocated = torch.cuda.memory_allocated(i)
        if allocated:  # asking the others for their memory would make a context on them
            free, total = torch.cuda.mem_get_info(i)
            values[f"system/gpu_{i}_memory_usage_megabytes"] = (total - free) / MEGABYTE
            values[f"system/gpu_{i}_memory_usage_percentage"] = 100.0 * (total - free) / total
            values[f"system/gpu_{i}_memory_allocated_megabytes"] = allocated / MEGABYTE
        with contextlib.suppress(Exception):  # needs NVIDIA's management library
            values[f"system/gpu_{i}_utilization_percentage"] = float(torch.cuda.utilization(i))
            values[f"system/gpu_{i}_power_usage_watts"] = torch.cuda.power_draw(i) / 1000.0
    return values
