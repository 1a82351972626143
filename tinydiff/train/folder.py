"""The folder of a run: what in it is ours, that nobody else's is touched, and that one process at a time writes there.

config.json         the configuration, the data set's identity and the words that say whose folder this is
metrics.jsonl       one line a step: step, loss, grad_norm, learning_rate; of an autoencoder what its loss is made of, too
checkpoints/step-NNNNNNN.safetensors
samples/step-NNNNNNN.png      the same noise drawn at that step, one row a class; of an autoencoder the same reconstructions, of a
                              student its teacher's beside its own
autoencoder.safetensors       of a model of latents: what decodes them
text/               of a model that looks at texts: the files of what encodes them
samples.png, denoising.gif, reconstructions.png, loss.png
lock                while a process trains, and held by it: the lock of one that died is free again
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from tinydiff.files import Held, NoLocks, lock, unlock, write_atomically
from tinydiff.text.encoder import FILES as ENCODER_FILES
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.config import TrainConfig

MARK = {"tinydiff": "run"}  # in config.json
TEXT = "text"  # the folder of the encoder of a run with texts
PICTURES = ("samples.png", "denoising.gif", "reconstructions.png", "loss.png")


class RunFolder:
    """A folder that is, or is to be, that of a run. A path, and what may be done there."""

    def __init__(self, path, *, say=print):
        self.path = Path(path)
        self.config, self.metrics = self.path / "config.json", self.path / "metrics.jsonl"
        self.checkpoints, self.samples = self.path / "checkpoints", self.path / "samples"
        self.autoencoder, self.text = self.path / checkpoints.AUTOENCODER, self.path / TEXT
        self._say, self._depth = say, 0

    def __str__(self):
        return str(self.path)

    @classmethod
    def of(cls, path, *, say=print):
        """The folder of the run that a checkpoint, or the folder itself, belongs to.

        Raises ``ValueError`` where files of someone else lie beside the checkpoint.
        """
        path = Path(path)
        folder = cls(checkpoints.run_folder(path), say=say)
        if others := folder._others(besides=[path, folder.autoencoder, folder.text, *checkpoints.saved(folder.path)]):
            raise ValueError(
                f"{folder} is not the folder of a run, as it holds {others[0]}; --out names a new one to go on in"
            )
        return folder

    def expect_new(self, *, overwrite=False):
        """Raise ``ValueError`` unless a new run may begin here: nothing is lost of another run, or of someone else."""
        if others := self._others():
            raise ValueError(
                f"{self} is not the folder of a run, as it holds {others[0]}; choose a new or empty folder"
            )
        saved = checkpoints.saved(self.checkpoints)
        if saved and not overwrite:
            raise ValueError(
                f"{self} already holds a run, at step {checkpoints.number(saved[-1])}; --resume {self} goes on with it, "
                f"--overwrite begins it anew"
            )

    @contextlib.contextmanager
    def locked(self):
        """Within this context no other process can write here. Where it is entered twice, the first time counts.

        Raises ``ValueError`` naming the process that does, on whatever machine. On a file system without locks it says
        so, and goes on.
        """
        if self._depth == 0:
            file = self._lock()
        self._depth += 1
        try:
            yield self
        finally:
            self._depth -= 1
            if self._depth == 0 and file:
                unlock(file)

    def prepare(self, config, dataset, step, autoencoder=None):
        """Make the folder that of a run with this config, at this step: of metrics nothing later is kept.

        autoencoder  the ``Checkpoint`` of that in whose latents it works, which is kept here, or None
        """
        for folder in (self.checkpoints, self.samples):
            folder.mkdir(parents=True, exist_ok=True)
        description = {**MARK, **config.to_dict(), "data_set": dataset.identity._asdict()}
        write_atomically(self.config, json.dumps(description, indent=2).encode())
        if autoencoder:
            checkpoints.save(self.autoencoder, autoencoder)
        self.keep_encoder(getattr(dataset, "encoder_files", {}))
        if self.metrics.exists():
            kept = [entry for entry in read_metrics(self.metrics) if entry["step"] <= step]
            write_atomically(self.metrics, "".join(json.dumps(entry) + "\n" for entry in kept).encode())

    def keep_encoder(self, files):
        """Write the files of a text encoder, {name: a function that gives the bytes}, but for those that are here."""
        for name, contents in files.items():
            if not (self.text / name).exists():
                self.text.mkdir(parents=True, exist_ok=True)
                write_atomically(self.text / name, contents())

    def clear(self):
        """Remove the run, and nothing else."""
        ours = [self.metrics, self.autoencoder, *checkpoints.saved(self.checkpoints), *self.samples.glob("step-*.png")]
        ours += [self.text / name for name in ENCODER_FILES]
        for path in (*ours, *(self.path / name for name in PICTURES)):
            path.unlink(missing_ok=True)

    def save(self, checkpoint, keep):
        """Write a checkpoint, and let go of all but the last ``keep`` up to it."""
        path = checkpoints.path_for(self.checkpoints, checkpoint.step)
        checkpoints.save(path, checkpoint)
        older = [each for each in checkpoints.saved(self.checkpoints) if checkpoints.number(each) <= checkpoint.step]
        for each in older[:-keep]:
            each.unlink()

    def _others(self, besides=()):
        """The names of what is here and not of a run; none in the folder of a run, where anyone may keep notes."""
        if not self.path.exists() or self._is_run():
            return []
        ours = {"checkpoints", "lock"} if checkpoints.saved(self.checkpoints) else {"lock"}  # of an imported model
        present = sorted(path for path in self.path.iterdir() if not path.name.startswith("."))
        return [path.name for path in present if path.name not in ours and path not in besides]

    def _is_run(self):
        try:
            description = json.loads(self.config.read_bytes())
            return MARK.items() <= description.items() or ("model" in description and bool(TrainConfig(**description)))
        except (OSError, ValueError, TypeError, AttributeError):  # the last two: JSON of another kind
            return False

    def _lock(self):
        """The open file that holds the lock, or None where there are no locks."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            return lock(self.path / "lock")
        except Held as holder:
            raise ValueError(f"{self} is in use: {holder} trains there") from None
        except NoLocks as why:
            self._say(f"{self}: no lock can be had ({why}); see to it that nothing else trains there")
            return None


class Elsewhere:
    """The folder of a run to a rank that writes nothing, and may not even see it: nothing happens there."""

    path, metrics, samples = None, os.devnull, None

    def __init__(self, path=None):
        pass

    @classmethod
    def of(cls, path):
        return cls()

    def expect_new(self, *, overwrite=False):
        pass

    def locked(self):
        return contextlib.nullcontext(self)

    def prepare(self, config, dataset, step, autoencoder=None):
        pass

    def clear(self):
        pass


def read_metrics(path):
    """The lines of a metrics file as dicts; what is torn, or no such line, is left out."""
    if not Path(path).exists():
        return []
    entries = []
    for line in Path(path).read_text(errors="replace").split("\n")[:-1]:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if (
                isinstance(entry, dict)
                and type(entry.get("step")) is int
                and isinstance(entry.get("loss"), (int, float))
            ):
                entries.append(entry)
    return entries
