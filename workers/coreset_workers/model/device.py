"""The device that this process computes on."""

import torch


def compute_device() -> torch.device:
    """Return the GPU that this process sees (workers/coreset_workers/__main__.py shows it one), else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
