"""What is refused, and in which words. Each rule stands here once; elsewhere it is one line that calls it.

A guard returns nothing where its arguments fit, and raises ValueError or TypeError where they do not. The message names
the argument, what is accepted and what was given.
"""

from ddpm_core.support.guards.inputs import *  # noqa: F403
from ddpm_core.support.guards.networks import *  # noqa: F403
from ddpm_core.support.guards.systems import *  # noqa: F403
from ddpm_core.support.guards.tensors import *  # noqa: F403
from ddpm_core.support.guards.values import *  # noqa: F403
