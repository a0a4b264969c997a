"""Is the model any good? Readers of digits, colours and styles, a search for copies, and scores from features."""

from ddpm_core.judging.clip_score import clip_score, retrieval_agreement
from ddpm_core.judging.copies import copy_ratios, nearest_pictures
from ddpm_core.judging.digits import DigitReader, Verdict, judge_digits
from ddpm_core.judging.emoji import draw_emoji, judge_emoji, judge_style
from ddpm_core.judging.features import frechet_distance, kernel_distance
from ddpm_core.judging.scenes import ink_colours, judge_scenes, scene_agreement
