"""Which camera moves a prompt names, in English and Chinese."""

import time

import pytest

from worker.engines.camera.moves import Move, MoveName, Speed
from worker.engines.camera.read_prompt import DEFAULT, read_moves


def spoken(prompt: str) -> str:
    """Return the moves that were understood: names in their order, - for slow, + for quick."""
    marks = {Speed.SLOW: "-", Speed.NORMAL: "", Speed.QUICK: "+"}
    understood = read_moves(prompt)
    if understood.is_default:
        assert understood.moves == (DEFAULT,)
        return "default"
    return " ".join(f"{move.name}{marks[move.speed]}" for move in understood.moves)


ENGLISH = [
    ("push in", "push_in"),
    ("slowly push in", "push_in-"),
    ("push in slowly", "push_in-"),
    ("The camera slowly pushes in on her face", "push_in-"),
    ("a slow, cinematic push-in", "push_in-"),
    ("Zoom in", "push_in"),
    ("zooming in on the cat", "push_in"),
    ("zoom slowly in on the eyes", "push_in-"),
    ("zoom", "push_in"),
    ("dolly in towards the house", "push_in"),
    ("the camera moves forward", "push_in"),
    ("the view drifts closer", "push_in"),
    ("gimbal push forward", "push_in"),
    ("crash zoom in", "push_in+"),
    ("Ken Burns effect", "push_in"),
    ("pull out", "pull_out"),
    ("the camera pulls back to reveal the city", "pull_out"),
    ("quick zoom out", "pull_out+"),
    ("zoom out slowly and smoothly", "pull_out-"),
    ("dollies out", "pull_out"),
    ("pan left", "pan_left"),
    ("pan to the right", "pan_right"),
    ("pans slowly to the left", "pan_left-"),
    ("pan left to right", "pan_right"),
    ("the camera pans from left to right", "pan_right"),
    ("slow pan from right to left", "pan_left-"),
    ("the camera pans across the mountains to the right", "pan_right"),
    ("slow pan across the skyline", "pan_right-"),
    ("whip pan left", "pan_left+"),
    ("panning shot to the left", "pan_left"),
    ("left pan", "pan_left"),
    ("truck left", "pan_left"),
    ("the camera glides slowly to the left", "pan_left-"),
    ("tilt up", "tilt_up"),
    ("tilt the camera up slowly", "tilt_up-"),
    ("camera tilts down quickly", "tilt_down+"),
    ("pan up to the sky", "tilt_up"),
    ("camera rises", "tilt_up"),
    ("the camera looks down", "tilt_down"),
    ("crane up over the roofs", "tilt_up"),
    ("roll clockwise", "roll_clockwise"),
    ("camera rolls counter-clockwise", "roll_counterclockwise"),
    ("roll left", "roll_counterclockwise"),
    ("anticlockwise roll", "roll_counterclockwise"),
    ("a gentle roll", "roll_clockwise-"),
    ("the camera rotates slowly", "roll_clockwise-"),
    ("camera rotates around the product", "arc_right"),
    ("arc left", "arc_left"),
    ("arc to the right around the statue", "arc_right"),
    ("orbit around the subject", "arc_right"),
    ("slow 360 orbit", "arc_right-"),
    ("orbit left slowly", "arc_left-"),
    ("camera circles the statue", "arc_right"),
    ("orbit clockwise", "arc_left"),
    ("handheld", "handheld"),
    ("hand-held camera, documentary style", "handheld"),
    ("shot on a hand held camera", "handheld"),
    ("subtle handheld sway", "handheld-"),
    ("camera shake", "handheld"),
    ("shaky cam", "handheld"),
    ("keep the camera still", "still"),
    ("static shot", "still"),
    ("the camera stays perfectly still", "still"),
    ("locked-off shot of a forest", "still"),
    ("static camera, waves crash", "still"),
    ("still", "still"),
    ("Static.", "still"),
    ("freeze", "still"),
    ("Don't move.", "still"),
    ("move the camera up", "tilt_up"),
    ("slowly move the camera down", "tilt_down-"),
    ("move the camera slowly to the left", "pan_left-"),
    ("swing the camera to the right", "pan_right"),
    ("move the camera closer", "push_in"),
    ("take the camera back quickly", "pull_out+"),
    ("slowly move closer to the subject", "push_in-"),
    ("fly forward", "push_in"),
    ("glide backwards", "pull_out"),
    ("camera rotates to the left", "pan_left"),
    ("rotate the camera", "roll_clockwise"),
    ("rotate the camera 90 degrees counterclockwise", "roll_counterclockwise"),
    ("tilt the camera", "tilt_up"),
    ("vertical pan", "tilt_up"),
]

SEVERAL = [
    ("push in and pan left", "push_in pan_left"),
    ("move the camera up and to the right", "tilt_up pan_right"),
    ("camera moves left and down", "pan_left tilt_down"),
    ("镜头向右上方移动", "pan_right tilt_up"),
    ("slowly push in and pan left", "push_in- pan_left-"),
    ("push in slowly and pan left", "push_in- pan_left"),
    ("slowly zoom in, then quickly pan right", "push_in- pan_right+"),
    ("push in, pan left slowly", "push_in pan_left-"),
    ("zoom in and tilt up, handheld", "push_in tilt_up handheld"),
    ("pan right while tilting up", "pan_right tilt_up"),
    ("zoom in + pan left", "push_in pan_left"),
    ("camera tilts up to the sky then pans right quickly", "tilt_up pan_right+"),
    ("Slow zoom out, gentle pan right, subtle handheld", "pull_out- pan_right- handheld-"),
    ("The woman smiles gently, wind in her hair, slow zoom in", "push_in-"),
    ("clouds drift slowly as the camera pans right", "pan_right"),
    ("pan left over a slow river", "pan_left"),
    ("a slowly walking woman, zoom in", "push_in"),
    ("slow motion, zoom in", "push_in"),
    ("slow-motion zoom out", "pull_out"),
    ("zoom in, but not too fast", "push_in-"),
    ("a woman moves in while the camera pulls back", "pull_out"),
    ("camera moves left, boat moves right", "pan_left"),
    ("zoom in, zoom out", "push_in"),
    ("pan right, pan left, pan right", "pan_right"),
    ("still water, zoom out", "pull_out"),
    ("static composition, handheld camera", "handheld"),
]

DENIED = [
    ("no zoom", "still"),
    ("don't zoom in", "still"),
    ("don’t zoom", "still"),
    ("do not push in or pan left", "still"),
    ("no pan, tilt or zoom", "still"),
    ("no zoom, no pan", "still"),
    ("without zooming and panning", "still"),
    ("no zoom, pan left", "pan_left"),
    ("never zoom, just a slow pan to the right", "pan_right-"),
    ("The camera doesn't zoom, it pans right", "pan_right"),
    ("zoom in without panning", "push_in"),
    ("without panning", "default"),
    ("no camera shake", "default"),
    ("avoid camera shake, slow push in", "push_in-"),
    ("no static shots", "default"),
    ("not only zooms in but also pans left", "push_in pan_left"),
    ("no camera movement", "still"),
    ("camera does not move", "still"),
    ("without moving the camera", "still"),
    ("Please don't move the camera", "still"),
    ("no people, zoom in", "push_in"),
    ("不要推近", "still"),
    ("不要推近或拉远", "still"),
    ("不要推近和平移", "still"),
    ("不要推拉摇移", "still"),
    ("别缩放", "still"),
    ("請勿推近", "still"),
    ("不要推近,向左平移", "pan_left"),
    ("没有运镜", "still"),
    ("無運鏡", "still"),
    ("不要移动镜头", "still"),
    ("镜头不要移动", "still"),
    ("没有镜头抖动", "default"),
    ("不断推近", "push_in"),
    ("不停地拉远", "pull_out"),
    ("无人机推近", "push_in"),
]

CHINESE = [
    ("推近", "push_in"),
    ("镜头缓慢推近", "push_in-"),
    ("镜头推进", "push_in"),
    ("镜头逐渐靠近人物", "push_in-"),
    ("推镜头", "push_in"),
    ("画面逐渐放大", "push_in-"),
    ("运镜：缓慢推进", "push_in-"),
    ("拉远", "pull_out"),
    ("镜头慢慢拉远", "pull_out-"),
    ("快速拉远", "pull_out+"),
    ("向后拉镜头", "pull_out"),
    ("向左平移", "pan_left"),
    ("镜头缓缓向左移动", "pan_left-"),
    ("左摇", "pan_left"),
    ("向右摇镜头", "pan_right"),
    ("镜头快速向右摇", "pan_right+"),
    ("镜头从左到右平移", "pan_right"),
    ("镜头缓慢地从左向右移动", "pan_right-"),
    ("镜头上移", "tilt_up"),
    ("缓慢上摇", "tilt_up-"),
    ("镜头向下摇", "tilt_down"),
    ("镜头下降", "tilt_down"),
    ("镜头顺时针旋转", "roll_clockwise"),
    ("逆时针旋转镜头", "roll_counterclockwise"),
    ("环绕拍摄", "arc_right"),
    ("镜头向左环绕", "arc_left"),
    ("镜头围绕人物旋转", "arc_right"),
    ("手持镜头", "handheld"),
    ("手持拍摄,轻微晃动", "handheld-"),
    ("固定镜头", "still"),
    ("镜头保持不动", "still"),
    ("固定机位拍摄", "still"),
    ("静止", "still"),
    ("镜头缓慢推近并向左平移", "push_in- pan_left-"),
    ("缓慢推近,快速左摇", "push_in- pan_left+"),
    ("镜头推近，不要太快", "push_in-"),
    ("女孩转身，镜头缓缓拉远", "pull_out-"),
    ("慢动作,镜头拉远", "pull_out"),
    ("鏡頭緩慢推近", "push_in-"),
    ("鏡頭拉遠", "pull_out"),
    ("鏡頭向左搖", "pan_left"),
    ("鏡頭緩緩上移", "tilt_up-"),
    ("鏡頭順時針旋轉", "roll_clockwise"),
    ("環繞拍攝", "arc_right"),
    ("手持攝影", "handheld"),
    ("鏡頭固定", "still"),
    ("由远及近", "push_in"),
    ("从近到远", "pull_out"),
    ("慢慢靠近", "push_in-"),
    ("缓慢向前", "push_in-"),
    ("左移", "pan_left"),
    ("向右移动", "pan_right"),
    ("向左移动镜头", "pan_left"),
    ("上移", "tilt_up"),
    ("升镜头", "tilt_up"),
    ("旋转镜头", "roll_clockwise"),
    ("轻微晃动", "handheld-"),
    ("定格", "still"),
    ("ＺＯＯＭ　ＩＮ", "push_in"),
    ("camera 推近 slowly", "push_in-"),
]

ABOUT_THE_IMAGE = [
    "",
    "she is walking",
    "a panorama of the alps",
    "a spanish dancer",
    "the company building",
    "a still lake at dawn",
    "a still life with fruit",
    "she stands still",
    "a frying pan on the stove",
    "the frying pan left on the table",
    "copper pans hang on the wall",
    "Peter Pan left the island",
    "panning for gold",
    "a car pulls out of the driveway",
    "a train pulls away from the station",
    "she pulls back her hair",
    "she tilts up her chin",
    "people push into the crowd",
    "a truck left on the road",
    "a man moves forward",
    "a dog runs to the left, the camera follows",
    "cinematic shot of a woman turning left",
    "a bird flying up into the sky",
    "the camera watches the sun rise",
    "a woman holds a camera and moves forward",
    "rolling hills in spring",
    "a ball rolls right",
    "photo from my camera roll",
    "the moon orbits the earth",
    "noah's arc",
    "Arc de Triomphe at night",
    "a girl with a handheld fan",
    "a handheld game console",
    "tilt-shift photo of a town",
    "a Zoom call with friends",
    "a zoom lens on a table",
    "静止的湖面",
    "群山环绕的湖",
    "一个女孩手持雨伞",
    "放大镜下的蚂蚁",
    "猫慢慢靠近",
    "火箭推进器点火",
    "人从左向右走",
    "风车顺时针旋转",
    "她向左移动",
    "提升镜头质感",
    "树叶晃动",
    "he turns the camera to the left",
    "a man holds the camera up",
    "she looks up and right",
    "a leaf drifts away",
    "she tilts her head",
    "a dog that does not move",
    "俯拍城市",
    "a wheel rotates slowly",
    "镜头跟随小狗",
]

REPEATED = [
    *("no ", "camera ", "slowly ", "zoom in ", "pan ", "pan, ", "to the ", "a", "-", ",", "  "),
    *("move the camera ", "up and ", "向左", "move slowly "),
    *("the camera slowly ", "zoom very slowly ", "pulls back and ", "camera is "),
    *("缓", "缓缓", "镜头", "不要", "逆时针", "镜头向左"),
]


def test_a_move_is_read_from_english() -> None:
    assert {prompt: spoken(prompt) for prompt, _ in ENGLISH} == dict(ENGLISH)


def test_a_move_is_read_from_chinese() -> None:
    assert {prompt: spoken(prompt) for prompt, _ in CHINESE} == dict(CHINESE)


def test_several_moves_keep_their_order_and_their_own_speed() -> None:
    assert {prompt: spoken(prompt) for prompt, _ in SEVERAL} == dict(SEVERAL)


def test_a_denied_move_is_not_made() -> None:
    assert {prompt: spoken(prompt) for prompt, _ in DENIED} == dict(DENIED)


def test_words_about_the_image_move_no_camera() -> None:
    heard = {prompt: spoken(prompt) for prompt in ABOUT_THE_IMAGE}
    assert heard == dict.fromkeys(ABOUT_THE_IMAGE, "default")


def test_the_default_is_a_gentle_push_in() -> None:
    assert Move(MoveName.PUSH_IN, Speed.SLOW) == DEFAULT


@pytest.mark.parametrize("prompt", ["pan left", "The camera pans left", "向左平移", "镜头左移"])
def test_what_follows_a_move_does_not_hide_it(prompt: str) -> None:
    for ending in (".", "!", ", 4k, highly detailed", "\n", " 。"):
        assert spoken(prompt + ending) == "pan_left", ending


@pytest.mark.parametrize("name", MoveName)
def test_a_move_is_known_by_its_own_name(name: MoveName) -> None:
    assert spoken(name.value) == name.value
    assert spoken(name.value.replace("_", " ")) == name.value


@pytest.mark.parametrize("part", REPEATED)
def test_the_longest_prompt_is_read_in_no_time(part: str) -> None:
    prompt = (part * 2000)[:2000]
    began = time.process_time()
    read_moves(prompt)
    assert time.process_time() - began < 0.5
