"""The published recipes, as fields of `jnas.networks.recipes.Recipe`.

Sources: Liu, Simonyan, Yang, DARTS, ICLR 2019, and its code's ``cnn/train.py``,
``cnn/train_imagenet.py`` and ``rnn/train.py``; Dong, Yang, NAS-Bench-201, ICLR 2020,
and its configuration files; Zela et al., Surrogate NAS Benchmarks (NAS-Bench-301), ICLR
2022, and its code.
"""

from typing import Any

from jnas.data import Augment
from jnas.supernet.sequence import Dropouts

__all__ = ["TABLE"]

_DARTS: dict[str, Any] = {
    "epochs": 600,
    "batch_size": 96,
    "channels": 36,
    "cells": 20,
    "auxiliary": True,
    "learning_rate": 0.025,
    "momentum": 0.9,
    "weight_decay": 3e-4,
    "clip": 5.0,
    "schedule": "cosine_epoch",
    "drop_path": 0.2,
    "auxiliary_weight": 0.4,
    "augment": Augment(crop=4, flip=True, cutout=16),
    "intended": "CIFAR-10 (32x32), all 50,000 training images; test after the last "
    "epoch",
    "source": "DARTS, cnn/train.py",
}
_NASBENCH201: dict[str, Any] = {
    "epochs": 200,
    "batch_size": 256,
    "channels": 16,
    "cells_per_stage": 5,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "schedule": "cosine_step",
    "augment": Augment(crop=4, flip=True),
    "intended": "CIFAR-10 and CIFAR-100 (32x32); ImageNet16-120 with crop 2",
    "source": "NAS-Bench-201, configs/nas-benchmark/CIFAR.config",
}

TABLE: dict[str, dict[str, Any]] = {
    "darts": _DARTS,
    "darts_imagenet": {
        "epochs": 250,
        "batch_size": 128,
        "channels": 48,
        "cells": 14,
        "stem": "imagenet",
        "auxiliary": True,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 3e-5,
        "clip": 5.0,
        "schedule": "exponential",
        "decay": 0.97,
        "auxiliary_weight": 0.4,
        "label_smoothing": 0.1,
        "augment": Augment(
            flip=True, resized_crop=(0.08, 1.0), jitter=(0.4, 0.4, 0.4, 0.2)
        ),
        "intended": "ImageNet (224x224), 1.28 million training images",
        "source": "DARTS, cnn/train_imagenet.py",
    },
    "nasbench201": _NASBENCH201,
    "nasbench201_12": {
        **_NASBENCH201,
        "epochs": 12,
        "intended": "the benchmark's short training (hp=12) of the same",
        "source": "NAS-Bench-201, configs/nas-benchmark/LESS.config",
    },
    "nasbench301": {
        **_DARTS,
        "epochs": 100,
        "channels": 32,
        "cells": 8,
        "eta_min": 1e-8,
        "mixup": 0.2,
        "intended": "CIFAR-10 (32x32), as the benchmark's architectures were trained",
        "source": "NAS-Bench-301, appendix on its training",
    },
    "darts_rnn": {
        "kind": "text",
        "epochs": 100,
        "batch_size": 64,
        "width": 850,
        "bptt": 35,
        "dropouts": Dropouts(
            output=0.75, hidden=0.25, inputs=0.75, embedding=0.2, words=0.1
        ),
        "learning_rate": 20.0,
        "weight_decay": 8e-7,
        "clip": 0.25,
        "slowness": 1e-3,
        "intended": "Penn Treebank by word (10,000 tokens)",
        "source": "DARTS, rnn/train.py; a cosine over 100 epochs instead of thousands "
        "of epochs with averaged weights",
    },
    "quick": {
        "epochs": 10,
        "batch_size": 64,
        "channels": 8,
        "cells": 5,
        "cells_per_stage": 1,
        "learning_rate": 0.05,
        "momentum": 0.9,
        "weight_decay": 3e-4,
        "clip": 5.0,
        "schedule": "cosine_step",
        "intended": "any small images, in minutes on a CPU; the dataset's augmentation",
        "source": "no paper: a small network and a short training to try things out",
    },
}
