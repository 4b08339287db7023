"""Names of camera moves in Chinese, in simplified characters."""

from typing import Final

from worker.engines.camera.moves import MoveName
from worker.engines.camera.phrases import Language, Phrase, Where, phrase

ANYWHERE, OPENING, CAMERA, DENIED = Where.ANYWHERE, Where.OPENING, Where.CAMERA, Where.DENIED
PUSH, PULL = MoveName.PUSH_IN, MoveName.PULL_OUT
PAN_LEFT, PAN_RIGHT = MoveName.PAN_LEFT, MoveName.PAN_RIGHT
TILT_UP, TILT_DOWN = MoveName.TILT_UP, MoveName.TILT_DOWN
ROLL_RIGHT, ROLL_LEFT = MoveName.ROLL_CLOCKWISE, MoveName.ROLL_COUNTERCLOCKWISE
ARC_LEFT, ARC_RIGHT = MoveName.ARC_LEFT, MoveName.ARC_RIGHT
STILL, HANDHELD = MoveName.STILL, MoveName.HANDHELD

CAM: Final = r"(?:镜头|相机|摄像机|摄影机|画面|视角|机位)"
HOW: Final = r"(?:缓缓|缓慢|慢慢|慢速|快速|迅速|轻轻|轻微|微微|略微|稍稍|稍微)?地?"


def _zooms() -> tuple[Phrase, ...]:
    return (
        phrase(r"推近|推进(?![器剂])|拉近|前推|推镜头?|(?<=[缓慢快轻])推", ANYWHERE, PUSH),
        phrase(r"放大(?![镜器])", ANYWHERE, PUSH),
        phrase(r"拉远|推远|后拉|拉镜头?|缩小", ANYWHERE, PULL),
        phrase(r"由远[及到至]近|从远[及到至]近", ANYWHERE, PUSH),
        phrase(r"由近[及到至]远|从近[及到至]远", ANYWHERE, PULL),
        phrase(rf"[向往朝]前{HOW}(?:推|移动?|走)?|靠近|逼近", OPENING, PUSH),
        phrase(r"推拉|变焦|缩放", ANYWHERE, PUSH, PULL),
        phrase(rf"[向往朝]前{HOW}(?:移动?|推|运动|走|进)?|推向|推|前移|前进", CAMERA, PUSH),
        phrase(r"靠近|逼近|接近", CAMERA, PUSH),
        phrase(rf"[向往朝]后{HOW}(?:移动?|拉|退|运动)?|后退|后移", CAMERA, PULL),
        phrase(r"远离|拉开|拉出", CAMERA, PULL),
    )


def _pans() -> list[Phrase]:
    phrases = [phrase(r"横摇|摇镜头?|摇移|摇摄|平移|横移", ANYWHERE, PAN_RIGHT, PAN_LEFT)]
    for side, other, move in (("左", "右", PAN_LEFT), ("右", "左", PAN_RIGHT)):
        to_side = rf"(?:从?{other}[侧边]?)?[向往朝到至]?{side}[侧边]?"
        phrases += [
            phrase(rf"{to_side}{HOW}(?:平移|横移|横摇|摇(?![头晃摆{other}])|扫)", ANYWHERE, move),
            phrase(rf"(?:平移|横移|摇)[向往到至]{side}[侧边]?", ANYWHERE, move),
            phrase(rf"{to_side}{HOW}(?:移动?|转动?|滑动?|运动)", CAMERA, move),
            phrase(rf"从{other}[侧边]?[向往到至]{side}", CAMERA, move),
            phrase(rf"[向往朝]?{side}{HOW}移动?", OPENING, move),
            phrase(rf"[向往朝]?{side}{HOW}移动?{CAM}", ANYWHERE, move),
            phrase(rf"[向往朝]{side}(?=[上下]方?{HOW}移)", CAMERA, move),
        ]
    return phrases


def _tilts() -> list[Phrase]:
    phrases = [
        phrase(r"上升|升起|抬升|抬起|升高|上仰|仰起", CAMERA, TILT_UP),
        phrase(r"下降|降低|降落|俯下", CAMERA, TILT_DOWN),
        phrase(r"(?<!提)升镜头?", ANYWHERE, TILT_UP),
        phrase(r"降镜头?", ANYWHERE, TILT_DOWN),
        phrase(r"俯仰", DENIED, TILT_UP, TILT_DOWN),
    ]
    for side, move in (("上", TILT_UP), ("下", TILT_DOWN)):
        phrases += [
            phrase(rf"[向往朝]?{side}{HOW}摇(?![头晃摆])", ANYWHERE, move),
            phrase(rf"[向往朝]{side}{HOW}(?:平移|倾斜)", ANYWHERE, move),
            phrase(rf"[向往朝]?{side}{HOW}移动?", OPENING, move),
            phrase(rf"[向往朝]?{side}{HOW}移动?{CAM}", ANYWHERE, move),
            phrase(rf"(?:(?<=[向往朝]左)|(?<=[向往朝]右)){side}方?{HOW}移", ANYWHERE, move),
            phrase(rf"[向往朝]?{side}{HOW}(?:移动?|抬|运动|升|降|扫|倾|转)", CAMERA, move),
        ]
    return phrases


def _turns() -> list[Phrase]:
    either = (ARC_RIGHT, ARC_LEFT)
    phrases = [
        phrase(r"横滚|滚转|旋转|翻滚|转动", CAMERA, ROLL_RIGHT, ROLL_LEFT),
        phrase(r"旋转|横滚", DENIED, ROLL_RIGHT, ROLL_LEFT),
        phrase(rf"旋转{CAM}", OPENING, ROLL_RIGHT, ROLL_LEFT),
        phrase(r"环绕(?=镜头|拍摄|运镜)|绕拍", ANYWHERE, *either),
        phrase(r"弧[形线](?=镜头|运镜|运动|移动)", ANYWHERE, *either),
        phrase(r"环绕|围绕|绕着?|弧[形线]", OPENING, *either),
    ]
    # Seen from above, a clockwise orbit moves the camera to its left.
    for turn, side, roll, arc in (
        ("顺时针", "左", ROLL_RIGHT, ARC_LEFT),
        ("逆时针", "右", ROLL_LEFT, ARC_RIGHT),
    ):
        phrases += [
            phrase(rf"{turn}(?:方向)?{HOW}(?:旋转|转动?|横滚|滚转|翻滚)", OPENING, roll),
            phrase(rf"{turn}(?:方向)?{HOW}(?:环绕|围绕|绕)", OPENING, arc),
            phrase(rf"[向往朝]?{side}{HOW}(?:环绕|绕|弧)", OPENING, arc),
        ]
    return phrases


def _rests() -> tuple[Phrase, ...]:
    at_rest = r"(?:静止|固定|不动|不变)"
    return (
        phrase(rf"(?:固定|静止|静态|锁定|不动)的?{CAM}|定镜", ANYWHERE, STILL),
        phrase(rf"{CAM}(?:保持|始终|一直|完全|要|位置)*{at_rest}", ANYWHERE, STILL),
        phrase(rf"运镜|{CAM}[移运晃]?动|[移运]?动{CAM}", DENIED),
        phrase(r"移动|运动", DENIED),
        phrase(
            r"手持(?=镜头|拍摄|摄影|摄像|感|效果|抖动|晃动|运镜|相机|风格|跟拍|\s*$|[,、])"
            rf"|{CAM}{HOW}(?:抖动|晃动|摇晃|微晃|颤动)|(?:抖动|晃动)的?镜头",
            ANYWHERE,
            HANDHELD,
        ),
        phrase(r"抖动|晃动|摇晃", CAMERA, HANDHELD),
        phrase(r"晃动|抖动", OPENING, HANDHELD),
        phrase(r"手持|抖动|晃动", DENIED, HANDHELD),
    )


CHINESE: Final = Language(
    phrases=(*_zooms(), *_pans(), *_tilts(), *_turns(), *_rests()),
    camera=r"镜头|相机|摄像机|摄影机|摄像头|无人机|画面|视角|机位",
    slow=(r"不要?太快|缓|慢(?!动作|镜头)|徐徐|轻轻|轻微|微微|稍稍|稍微|略微|渐渐|逐渐|舒缓"),
    quick=r"快|迅速|急速|疾速|迅猛|猛然|猛地",
    denial=(
        r"不要(?!太)|不用|不需要|不必|不许|不能|不可|不(?![停断同要])|请勿|切勿|勿|别(?![墅致样])"
        r"|无需|无须|没有|没|无(?![人限边数声尽])|避免|禁止"
    ),
    fillers=(
        r"不要?太|然后|接着|同时|并且|开始|持续|不断|不停|进行|最后|平稳|平滑|匀速|非常|十分|速度|迅速|急速|逐渐"
        r"|[缓慢快速轻微稍略徐渐地的得先再并和请让把将使用一个也以做很要]"
    ),
    joint=r"、|然后|接着|同时|并且?|再|和",
    listed=r"、|或者?|或是|和|及|与|以及",
)
