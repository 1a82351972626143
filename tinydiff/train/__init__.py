"""Training: configuration, the training step, and runs that can be stopped and resumed."""

from tinydiff.train.config import TrainConfig
from tinydiff.train.run import run
from tinydiff.train.trainer import Metrics, Trainer
from tinydiff.train.training import NonFinite

__all__ = ["Metrics", "NonFinite", "TrainConfig", "Trainer", "run"]
