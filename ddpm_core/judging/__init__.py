"""Is the model any good? A reader of digits and colours, and a search for copies."""

from ddpm_core.judging.copies import copy_ratios, nearest_pictures
from ddpm_core.judging.digits import DigitReader, Verdict, judge_digits
from ddpm_core.judging.emoji import emoji_agreement
from ddpm_core.judging.scenes import ink_colours, judge_scenes, scene_agreement
