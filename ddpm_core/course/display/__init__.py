"""Showing pictures, chains and training in a notebook. Every widget has a static twin. Nothing here is diffusion."""

from ddpm_core.course.display.frames import animate, show_frames
from ddpm_core.course.display.live import prompt_box, watch
from ddpm_core.course.display.maps import picture_map
from ddpm_core.course.display.mask import mask_box
from ddpm_core.course.display.network import attention_figure, record_attention, show_attention
from ddpm_core.course.display.pictures import show_pictures, show_source
from ddpm_core.course.display.search import search_box
from ddpm_core.course.display.style import (
    BLUE,
    GREY,
    ORANGE,
    figure_to_pixels,
    show_figure,
    use_course_style,
    write_out_numbers,
)
from ddpm_core.support.pixels import tile
