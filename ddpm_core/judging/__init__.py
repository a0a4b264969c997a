"""Is the model any good? Readers of digits, colours and styles, and a search for copies."""

from ddpm_core.judging.copies import copy_ratios, nearest_pictures
from ddpm_core.judging.digits import DigitReader, Verdict, judge_digits
from ddpm_core.judging.emoji import draw_emoji, judge_emoji, judge_style
from ddpm_core.judging.scenes import ink_colours, judge_scenes, scene_agreement
