"""What a user of the command line can mend is told in one sentence."""

import os

import click

from ddpm_core.scale.ranks import RankLost
from ddpm_core.support.files import DataUnavailable
from ddpm_core.support.memory import OutOfMemory, is_lack_of_memory
from ddpm_core.support.options import as_typed
from ddpm_core.support.tensor_file import CheckpointError
from ddpm_core.training_state import TrainingDiverged

EXPECTED = (ValueError, TypeError, OSError, ImportError)
EXPECTED += (CheckpointError, DataUnavailable, TrainingDiverged, OutOfMemory, RankLost)
NO_MEMORY = (
    "there is not enough memory for this: ask for fewer or smaller pictures (--batch-size, --count, --picture-size), "
    "or for fewer --channels or --timesteps"
)


class OneSentence(click.Group):
    """Shows what a user can mend as one sentence rather than a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except EXPECTED as error:
            number = int(os.environ.get("RANK", 0))
            # Wrong settings are named by the first process of this machine, too.
            if isinstance(error, ValueError) and int(os.environ.get("LOCAL_RANK", 0)) > 0:
                raise SystemExit(1) from error
            sentence = as_typed(str(error), self.commands[context.invoked_subcommand])
            raise click.ClickException(f"process {number}: {sentence}" if number > 0 else sentence) from error
        except RuntimeError as error:
            if not is_lack_of_memory(error):
                raise
            raise click.ClickException(NO_MEMORY) from error
