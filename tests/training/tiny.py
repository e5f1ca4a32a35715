"""The whole chain as small as it still works: 32 px, a few thousand images, minutes on two cores."""

from pathlib import Path
from typing import Any

from training.config import RunConfig


def tiny_config(root: Path, **gan: Any) -> RunConfig:
    """A run on the drawn joints that lie in `root`."""
    return RunConfig.model_validate(
        {
            "name": "tiny",
            "seed": 5,
            "space": {"id": "drawn-joint", "title": "Drawn joints", "intended_use": "Tests."},
            "data": {
                "root": root,
                "sources": [{"images": "images.zip", "labels": "labels.csv"}],
                "size_px": 32,
                "channels": 1,
                "classes": ["wide", "narrow"],
                "splits": {"train": ["train"], "val": ["val"], "test": ["test"]},
                "mirror": False,
                "dataset": "drawn joints",
                "modality": "drawing",
                "licence": "CC0-1.0",
                "attribution": "drawn by the tests",
            },
            "classifier": {
                "id": "narrow-gap",
                "title": "Is the gap narrow?",
                "target": "narrow",
                "target_classes": [1],
                "layers": [1, 1, 1, 1],
                "width": 8,
                "passes": 6,
                "domain_passes": 3,
                "domain_width": 8,
            },
            "gan": {
                "latent_size": 32,
                "mapping_layers": 2,
                "channel_base": 256,
                "channel_max": 64,
                "style_mixing": 0.0,
                "total_kimg": 32,
                "r1_gamma": 0.01,
                "dtype": "float32",
                "checkpoint_kimg": 2,
                "sample_kimg": 8,
                **gan,
            },
            "encoder": {"layers": [1, 1, 1, 1], "width": 16, "total_kimg": 24, "real_kimg": 2, "dtype": "float32"},
            "direction": {"samples": 6000, "val_images": 24, "attribute_samples": 600, "mode_images": 16},
            "evaluate": {"surrogate_samples": 500, "bootstrap": 50, "max_images": 40},
            "gate": {"train_images": 240, "passes": 2, "val_images": 40, "check_images": 24, "test_images": 24},
            "audit": {"train_images": 256, "passes": 1, "val_images": 24, "draws": 3, "shuffles": 1, "samples": 300},
        }
    )
