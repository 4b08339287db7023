"""Names of camera moves in English."""

from typing import Final

from worker.engines.camera.moves import MoveName
from worker.engines.camera.phrases import Language, Phrase, Where, phrase

ANYWHERE, OPENING, CAMERA, DENIED = Where.ANYWHERE, Where.OPENING, Where.CAMERA, Where.DENIED
PUSH, PULL = MoveName.PUSH_IN, MoveName.PULL_OUT
LEFT, RIGHT = MoveName.PAN_LEFT, MoveName.PAN_RIGHT
UP, DOWN = MoveName.TILT_UP, MoveName.TILT_DOWN
ROLL_RIGHT, ROLL_LEFT = MoveName.ROLL_CLOCKWISE, MoveName.ROLL_COUNTERCLOCKWISE
ARC_LEFT, ARC_RIGHT = MoveName.ARC_LEFT, MoveName.ARC_RIGHT
STILL, HANDHELD = MoveName.STILL, MoveName.HANDHELD

CAM: Final = r"(?:camera|shot|frame|framing|view|viewpoint|angle|lens)"
# Words that may come inside a phrase: zoom slowly in, tilt the camera up, pan all the way left.
GAP: Final = (
    r"(?:\s+(?:\w+ly|(?:the|your|our)\s+(?:camera|view|shot|lens|frame)|camera|fast|back|further"
    r"|right|straight|very|a\s+(?:little|bit)|all\s+the\s+way))*"
)
TO: Final = r"(?:\s+(?:over\s+)?(?:to|towards?))?(?:\s+the)?[\s:-]+"
ENDS: Final = r"(?=\s*(?:[,.;:]|$)|\s+(?:\w+ly|and|then|around|shot|effect|movement)\b)"
# Verbs whose subject can be anything.
GOES: Final = (
    r"\b(?:mov(?:e|es|ing)|glid(?:e|es|ing)|creep(?:s|ing)?|fl(?:y|ies|ying)|travel(?:s|l?ing)?"
    r"|track(?:s|ing)?|drift(?:s|ing)?|inch(?:es|ing)?|float(?:s|ing)?|slid(?:e|es|ing)"
    r"|go(?:es|ing)?|get(?:s|ting)?|com(?:e|es|ing)|advanc(?:e|es|ing)|push(?:es|ing)?"
    r"|pull(?:s|ing)?|swing(?:s|ing)?|sweep(?:s|ing)?|turn(?:s|ing)?|look(?:s|ing)?"
    r"|truck(?:s|ing)?|shift(?:s|ing)?|climb(?:s|ing)?|cranes?|boom(?:s|ing)?)\b"
)
# An instruction where to move the camera: move the camera slowly to the left.
TAKES: Final = (
    rf"(?:{GOES}|\b(?:take|bring|point|aim)(?:s|ing)?\b)(?:\s+\w+ly)?\s+(?:(?:the|your|our)\s+)?{CAM}\b"
    rf"{GAP}"
)
IN: Final = r"(?:in|into|inwards?|closer|nearer|forwards?|towards?)\b"
OUT: Final = r"(?:out|outwards?|back|backwards?|away)\b"
# She pulls back her hair; a car pulls out of the driveway.
NO_OBJECT: Final = r"(?!\s+(?:her|his|their|my|its|the\s+(?!camera|shot|view)|a\b|of\b))"
PAN: Final = (
    "".join(rf"(?<!\b{word}\s)" for word in ("frying", "baking", "sauce", "iron", "peter"))
    + r"\bpan(?:s|ning)?\b"
)
NO_ARTICLE: Final = r"(?<!\ba\s)(?<!\bthe\s)"  # The truck, the crane: things in the image.
AFTER_UP_OR_DOWN: Final = r"(?:(?<=\bup\sand\s)|(?<=\bdown\sand\s))"
AFTER_A_SIDE: Final = r"(?:(?<=\bleft\sand\s)|(?<=\bright\sand\s))"
TILT: Final = r"\btilt(?:s|ing)?\b"
ROLL: Final = r"\broll(?:s|ing)?\b"
TURN: Final = rf"(?:{ROLL}|\b(?:rotat(?:e|es|ing)|turn(?:s|ing)?|spin(?:s|ning)?)\b)"
ARC: Final = r"\b(?:arc(?:s|ing)?|orbit(?:s|ing)?|circl(?:e|es|ing))\b"
AROUND: Final = (
    r"(?:\s+a?round(?:\s+(?:(?:the|a)\s+(?!left|right)\w+|her|him|it|them)\b)?"
    r"|\s+(?:the|a)\s+(?!left|right)\w+)?"
)


def _zooms() -> tuple[Phrase, ...]:
    zoom, dolly = r"\bzoom(?:s|ing)?\b", r"\bdoll(?:y|ies|ying)\b"
    return (
        phrase(rf"{zoom}{GAP}[\s-]+(?:{IN}|onto\b|on\b)", ANYWHERE, PUSH),
        phrase(rf"{zoom}{GAP}[\s-]+{OUT}", ANYWHERE, PULL),
        phrase(rf"{zoom}(?!\s+(?:call|meeting|lens))", ANYWHERE, PUSH, PULL),
        phrase(rf"{dolly}{GAP}[\s-]+{IN}", ANYWHERE, PUSH),
        phrase(rf"{dolly}{GAP}[\s-]+{OUT}", ANYWHERE, PULL),
        phrase(r"\bdolly[\s-]+(?:shot|move)\b|\bdollying\b", ANYWHERE, PUSH, PULL),
        phrase(r"\bpush-in\b|\bken\s+burns\b", ANYWHERE, PUSH),
        phrase(r"\bpull-(?:out|back)\b(?!\s+(?:sofa|couch|bed|drawer|tray))", ANYWHERE, PULL),
        phrase(rf"\bpush(?:es|ing)?{GAP}\s+{IN}(?!\s+line)", OPENING, PUSH),
        phrase(rf"\bpull(?:s|ing)?{GAP}\s+{OUT}{NO_OBJECT}", OPENING, PULL),
        phrase(rf"{GOES}{GAP}\s+{IN}", CAMERA, PUSH),
        phrase(rf"{GOES}{GAP}\s+{OUT}", CAMERA, PULL),
        phrase(rf"{TAKES}\s+{IN}", OPENING, PUSH),
        phrase(rf"{TAKES}\s+{OUT}", OPENING, PULL),
        phrase(rf"{GOES}{GAP}\s+(?:closer|nearer|forwards?)\b", OPENING, PUSH),
        phrase(rf"{GOES}{GAP}\s+backwards?\b", OPENING, PULL),
        phrase(r"\bclos(?:es|ing)\s+in\b|\bapproach(?:es|ing)?\b", CAMERA, PUSH),
        phrase(r"\bback(?:s|ing)\s+(?:away|up|out)\b|\bretreat(?:s|ing)?\b", CAMERA, PULL),
    )


def _pans() -> list[Phrase]:
    how = r"(?:slow|gentle|smooth|subtle|steady|quick|fast|whip|swish|horizontal)"
    nowhere = r"(?![^,.;]{0,30}\b(?:left|right|up|down))"
    phrases = [
        phrase(rf"\b{how}\s+pan\b{nowhere}", OPENING, RIGHT, LEFT),
        phrase(rf"{PAN}\s+(?:across|over|shot|around)\b{nowhere}", OPENING, RIGHT, LEFT),
        phrase(rf"{PAN}(?=\s*(?:[,.;]|$))", OPENING, RIGHT, LEFT),
        phrase(rf"\bpanning\b(?!\s+for\b){nowhere}", ANYWHERE, RIGHT, LEFT),
        phrase(r"\bpans\b", CAMERA, RIGHT, LEFT),
        phrase(r"\bpans?\b", DENIED, RIGHT, LEFT),
    ]
    for side, other, move in (("left", "right", LEFT), ("right", "left", RIGHT)):
        across = rf"(?:the\s+)?{other}\s+to\s+(?:the\s+)?{side}\b"
        to_side = rf"{TO}{side}(?:wards?)?\b(?!\s+to\s+(?:the\s+)?{other})"
        phrases += [
            phrase(rf"{PAN}{GAP}{to_side}", ANYWHERE, move),
            phrase(rf"{PAN}[^,.;]{{0,30}}?\b{across}", ANYWHERE, move),
            phrase(rf"{PAN}[^,.;]{{0,30}}?\bto\s+the\s+{side}\b", ANYWHERE, move),
            phrase(rf"{NO_ARTICLE}\btruck(?:s|ing)?\b{to_side}", OPENING, move),
            phrase(rf"\b{other}[\s-]to[\s-]{side}\s+(?:pan|sweep)\b", ANYWHERE, move),
            phrase(rf"\b{side}(?:ward)?\s+pan\b", ANYWHERE, move),
            phrase(rf"\bdoll(?:y|ies|ying)\b{GAP}{to_side}", ANYWHERE, move),
            phrase(rf"{GOES}{GAP}{to_side}", CAMERA, move),
            phrase(rf"{TAKES}{to_side}", OPENING, move),
            phrase(rf"\brotat(?:es|ing){GAP}{to_side}", CAMERA, move),
            phrase(rf"{AFTER_UP_OR_DOWN}(?:to\s+the\s+)?{side}\b", CAMERA, move),
            phrase(rf"{GOES}{GAP}\s+(?:from\s+)?{across}", CAMERA, move),
        ]
    return phrases


def _tilts() -> list[Phrase]:
    phrases = [
        phrase(r"\bris(?:es|ing)\b|\bascend(?:s|ing)?\b", CAMERA, UP),
        phrase(r"\bdescend(?:s|ing)?\b|\blower(?:s|ing)\b", CAMERA, DOWN),
        phrase(rf"{TILT}(?!-shift)", DENIED, UP, DOWN),
        phrase(rf"{TILT}(?:\s+the)?(?:\s+{CAM})?{ENDS}", OPENING, UP, DOWN),
        phrase(rf"\bvertical\s+pan\b|{PAN}\s+vertically\b", ANYWHERE, UP, DOWN),
    ]
    for side, move in (("up", UP), ("down", DOWN)):
        to_side = rf"{GAP}[\s-]+{side}(?:wards?)?\b"
        phrases += [
            phrase(rf"{TILT}{to_side}{NO_OBJECT}", OPENING, move),
            phrase(rf"\b{side}(?:wards?)?\s+tilt\b", ANYWHERE, move),
            phrase(rf"{PAN}{to_side}", ANYWHERE, move),
            phrase(rf"{NO_ARTICLE}\b(?:pedestal|jib|crane|boom)s?{to_side}", OPENING, move),
            phrase(rf"{GOES}{to_side}", CAMERA, move),
            phrase(rf"{TAKES}{to_side}", OPENING, move),
            phrase(rf"{AFTER_A_SIDE}{side}\b", CAMERA, move),
        ]
    return phrases


def _rolls() -> list[Phrase]:
    phrases = [
        phrase(rf"(?<!my\scamera\s){ROLL}{ENDS}", OPENING, ROLL_RIGHT, ROLL_LEFT),
        phrase(rf"\brotat(?:es|ing)\b{ENDS}", CAMERA, ROLL_RIGHT, ROLL_LEFT),
        phrase(rf"\brotate\s+the\s+{CAM}\b", OPENING, ROLL_RIGHT, ROLL_LEFT),
        phrase(ROLL, DENIED, ROLL_RIGHT, ROLL_LEFT),
    ]
    for turn, side, move in (
        (r"clockwise", "right", ROLL_RIGHT),
        (r"(?:counter|anti)[\s-]?clockwise", "left", ROLL_LEFT),
    ):
        phrases += [
            phrase(rf"{TURN}{GAP}(?:\s+\d+\s+degrees)?[\s-]+{turn}\b", OPENING, move),
            phrase(rf"{ROLL}{GAP}{TO}{side}\b", OPENING, move),
            phrase(rf"(?<!-)\b{turn}\s+(?:camera\s+)?roll\b", ANYWHERE, move),
        ]
    return phrases


def _arcs() -> list[Phrase]:
    either = (ARC_RIGHT, ARC_LEFT)
    phrases = [
        phrase(
            rf"{ARC}\s+(?:a?round|about)\b|\borbit(?:s|ing)?(?:{ENDS}|\s+(?:the|a)\b)",
            OPENING,
            *either,
        ),
        phrase(r"\b(?:arc|orbit(?:ing)?|circling)[\s-]+(?:shot|move)\b", ANYWHERE, *either),
        phrase(rf"{ARC}|{GOES}{GAP}\s+a?round\b", CAMERA, *either),
        phrase(r"\b(?:rotat|revolv)(?:e|es|ing)\s+a?round\b", CAMERA, *either),
        phrase(r"\barc(?:s|ing)?\b", DENIED, *either),
    ]
    # Seen from above, a clockwise orbit moves the camera to its left.
    for turn, side, move in (
        (r"clockwise", "left", ARC_LEFT),
        (r"(?:counter|anti)[\s-]?clockwise", "right", ARC_RIGHT),
    ):
        phrases += [
            phrase(rf"{ARC}{GAP}{AROUND}{TO}{side}(?:wards?)?\b", OPENING, move),
            phrase(rf"{ARC}{GAP}{AROUND}[\s-]+{turn}\b", OPENING, move),
            phrase(rf"\b{side}(?:ward)?\s+(?:arc|orbit)\b", ANYWHERE, move),
        ]
    return phrases


def _rests() -> tuple[Phrase, ...]:
    at_rest = r"(?:still|static|stationary|fixed|motionless|immobile|unmoving|locked|in\s+place)\b"
    being = (
        r"(?:\s+(?:is|stays?|remains?|holds?|held|kept|keeps?|should|must|will|to|be|being|as"
        r"|completely|perfectly|totally|absolutely|entirely|very))*"
    )
    feel = (
        r"camera|cam|shot|footage|feel|look|style|video|motion|movement|shake|sway|effect|vibe"
        r"|pov|documentary|tracking|and|with"
    )
    return (
        phrase(rf"\b{at_rest}\s+{CAM}\b|\btripod\s+shot\b", ANYWHERE, STILL),
        phrase(rf"\b{CAM}{being}\s+{at_rest}", ANYWHERE, STILL),
        phrase(r"\block(?:ed)?[\s-](?:off|down)\b", ANYWHERE, STILL),
        phrase(r"\b(?:hold|keep|stay)\s+still\b", OPENING, STILL),
        phrase(rf"\b{CAM}\s+(?:movements?|motions?|moves?)\b", DENIED),
        phrase(rf"\bmov(?:e|es|ing)\s+the\s+{CAM}\b", DENIED),
        phrase(r"\b(?:movement|motion)\b(?=\s*(?:[,.;]|$))", DENIED),
        phrase(r"(?<=camera\sdoes\snot\s)move\b|(?<=camera\sdoesn't\s)move\b", DENIED),
        phrase(
            rf"\bhand[\s-]?held\b(?=\s*(?:[^\w\s]|$)|\s+(?:{feel})\b)"
            r"|\bshak(?:y|ing)\s*(?:cam(?:era)?|footage|shot)\b"
            r"|\bcamera[\s-](?:shake|sway|wobble)s?\b",
            ANYWHERE,
            HANDHELD,
        ),
        phrase(r"\bhand[\s-]?held\b|\b(?:shak|sway|wobbl)(?:es|s|ing)\b", CAMERA, HANDHELD),
        phrase(r"\bshak(?:e|y|ing)\b|\bhand[\s-]?held\b", DENIED, HANDHELD),
    )


ENGLISH: Final = Language(
    phrases=(*_zooms(), *_pans(), *_tilts(), *_rolls(), *_arcs(), *_rests()),
    camera=(
        r"\b(?:camera(?:man)?|cam|lens|drone|gimbal|viewpoint|we)\b"
        r"|\b(?:shot|view|footage)\b(?!\s+of\b)"
    ),
    slow=(
        r"\bnot\s+(?:too|so|very)\s+(?:fast|quick(?:ly)?)\b"
        r"|\b(?:slow(?:ly|er)?|gentl[ey]|subtl[ey]|gradual(?:ly)?|leisurely|soft(?:ly)?"
        r"|slight(?:ly)?|calm(?:ly)?|a\s+(?:little|bit))\b(?![\s-]*mo(?:tion)?\b)"
    ),
    quick=(
        r"\b(?:quick(?:ly)?|fast(?:er)?|rapid(?:ly)?|swift(?:ly)?|sudden(?:ly)?|speedy"
        r"|crash|snap|whip|swish)\b"
    ),
    denial=(
        r"\b(?:no|not(?!\s+(?:only|just|too|so|very)\b)|never|without|avoid(?:ing)?|nor|neither"
        r"|cannot|(?:do|does|should|must|ca|wo)n'?t|instead\s+of|rather\s+than)\b"
    ),
    fillers=(
        r"\b(?:a|an|the|one|some|any|please|do|does|lets?|let's|use|makes?|create|add|with|very"
        r"|then|and|also|but|now|is|are|be|to|should|will|must|can|starts?|begins?|continues?"
        r"|keeps?|by|just|only|\w+ly|fast|slow|gentle|subtle|gradual|soft|slight|quick|rapid"
        r"|not\s+(?:too|so|very)|swift|sudden|smooth|steady|cinematic|dramatic|short|long|continuous|slower|faster"
        r"|more|calm|little|bit|too|so|in|movements?|motion|moves?|crash|snap|whip|swish|full|\d+|degrees?)\b"
    ),
    joint=r"\b(?:and|then|but|while|whilst|with|when|where|until|as(?!\s+(?:still|far)))\b",
    listed=r",?\s*\b(?:or|nor)\b|/",
)
