"""What the name of a folder says about the images in it, in any case and in several languages.

A name is read as its words: `OK_parts 2` is `ok`, because words such as `parts` and numbers say
nothing. All other words together must be known. So `not_good` and `uncracked` are not `good` and
`cracked`, and `good_old` is unclear.
"""

import re
import unicodedata
from enum import Enum


class Role(Enum):
    """What a folder holds, or that its name does not say it."""

    GOOD = "good parts"
    BAD = "defects of any kind"
    KIND = "one kind of defect"
    TRAIN = "images to learn from"
    VALIDATION = "images to choose the best weights"
    TEST = "images to evaluate on"
    MASKS = "masks of defects"
    COPIES = "pictures that were made from photographs"
    ANY = "images"
    UNCLEAR = "a name of several meanings"
    UNKNOWN = "another name"


SPLITS = (Role.TRAIN, Role.VALIDATION, Role.TEST)
NAMES = {
    Role.GOOD: """
        good ok okay normal normals pass passed accept accepted acceptable intact perfect healthy
        nominal conform conforming compliant defectfree anomalyfree flawless faultless correct
        gut gute io inordnung fehlerfrei normale fehlerlos einwandfrei makellos
        unbeschadigt unbeschaedigt
        bon bons bonne bonnes conforme conformes sain sains saine saines
        bueno buenos buena buenas correcto correctos aceptado aceptados sano sanos apto aptos
        aprobado aprobados
        buono buoni buona buone conformi accettato accettati integro integri
        bom boa boas aprovado aprovados
        goed goedgekeurd godkand dobry dobre dobra poprawne poprawny zgodny zgodne bezwad vporadku
        iyi sağlam kusursuz хороший хорошие годный годные норма
        良 良品 合格 合格品 正常 好 正品 无缺陷 无不良 无异常 無不良 無欠陥 不良なし
        欠陥なし 異常なし 양품 양호 정상 정상품 합격 합격품
    """,
    Role.BAD: """
        bad def ng nok ko notok nogood
        defect defects defected defective defectives anomaly anomalies anomalous abnormal abnormals
        abnormality abnormalities anormal outlier outliers fault faults faulty fail failed failure
        failures flaw flaws flawed reject rejects rejected rejection scrap damage damages damaged
        imperfect incorrect
        schlecht schlechte nio nichtok nichtio nichtinordnung beschadigt beschaedigt
        mangel maengel
        fehler fehlerhaft fehlerhafte mangelhaft defekt defekte anomalie ausschuss kaputt
        mauvais mauvaise mauvaises defaut defauts defectueux defectueuse defectueuses nonconforme
        nonconformes rebut rebuts abime abimes malo malos mala malas defecto defectos defectuoso
        defectuosos defectuosa defectuosas incorrecto incorrectos rechazo rechazado
        rechazados danado danados
        difetto difetti difettoso difettosi scarto scarti rifiutato rifiutati
        defeito defeitos defeituoso defeituosos defeituosa defeituosas ruim reprovado reprovados
        fout slecht afgekeurd underkand zły złe zle wada wady wadliwe wadliwy niezgodny niezgodne
        vada vady vadny vadne spatny spatne zmetek zmetky kotu hatali kusurlu hurda
        плохой плохие брак дефект дефекты
        不良 不良品 不合格 不合格品 异常 異常 不正常 缺陷 有缺陷 欠陥 欠陥品 瑕疵 瑕疵品 次品
        废品 坏 불량 불량품 비정상 결함 불합격
    """,
    # A kind of defect, whatever other words stand beside them.
    Role.KIND: """
        scratch scratches scratched dent dents dented crack cracks cracked hole holes stain stains
        stained contamination contaminated broken breakage bent missing misplaced rust rusty
        corrosion burr burrs chip chips chipped chipping bubble bubbles spot spots discoloration
        discolouration deformed deformation pit pits pitting inclusion inclusions porosity pore
        pores void voids tear tears torn wear worn fracture fractured
        kratzer delle dellen riss risse fleck flecken rost bruch grat lunker einschluss
        rayure rayures bosse bosses fissure fissures tache taches rouille
        rayado aranazo abolladura grieta grietas mancha manchas agujero oxido
        graffio graffi crepa crepe ammaccatura ammaccature macchia macchie
        划痕 划伤 裂纹 裂缝 凹坑 凹陷 污渍 毛刺 傷 キズ 汚れ 打痕 割れ 欠け
        스크래치 크랙 찍힘 오염
    """,
    Role.TRAIN: """
        train training trainings learn learning lern entrainement entrenamiento addestramento treino
        训练 训练集 訓練 学習 학습 훈련
    """,
    Role.VALIDATION: """
        val valid validation validate dev validierung validacion validazione validacao
        验证 验证集 検証 검증
    """,
    Role.TEST: """
        test testing tests testpublic eval evaluation prufung pruefung prueba pruebas teste testes
        测试 测试集 テスト 評価 테스트 평가
    """,
    Role.MASKS: """
        groundtruth groundtruths gt gts mask masks label labels annotation annotations segmentation
        segmentations seg masken maske masque masques mascara mascaras
        maschera maschere 掩码 掩膜 标注 マスク ラベル 마스크 라벨
    """,
    Role.COPIES: """
        heatmap heatmaps overlay overlays preview previews vorschau thumb thumbs thumbnail
        thumbnails annotated visualization visualizations visualisation visualisations
        depth xyz pointcloud pointclouds
    """,
    # They say nothing about the images, whatever words stand beside them.
    Role.ANY: """
        image images img imgs picture pictures pic pics photo photos foto fotos bild bilder imagen
        imagenes frame frames data daten dataset set rgb part parts teil teile piece pieces pieza
        piezas pezzo pezzi sample samples item items product products raw original of
        品 画像 图 图像 图片 样本 样品 データ 사진 이미지
    """,
    Role.UNCLEAR: """
        positive positives negative negatives pos neg true false yes no class classes a b mixed all
        unlabeled unlabelled unknown other others misc unsorted rest
        borderline doubtful doubt uncertain unclear unsure maybe suspicious suspect review recheck
        result results output outputs synthetic generated augmented
    """,
}
# Words that say nothing beside others. A folder of a time holds what was taken then.
VIEWS = "front back top bottom left right side view views camera cam vorne hinten oben unten seite"
TIMES = """
    day date week month batch lot shift jour dia lote turno
    datum tag woche kw monat charge los schicht
    january february march april may june july august september october november december
    januar februar marz mai juni juli oktober dezember
"""
BESIDE = {*VIEWS.split(), *TIMES.split()}
DATE = re.compile(
    r"(19|20)\d\d([-_. ]?[01]\d([-_. ]?[0-3]\d)?)?([-_T ]*\d\d[-_.h ]?\d\d([-_.m ]?\d\d)?)?"
    r"|[0-3]?\d[-_. ][01]?\d[-_. ](19|20)?\d\d"
)
# Words that turn around the meaning of those after them, or before them, or take it away.
NEGATIONS = {"not", "no", "non", "un", "without", "free", "nicht", "kein", "keine", "ohne", "pas"}
NEGATIONS |= {"sans", "sin", "senza", "sem", "nao", "bez", "nie"}
NEGATING_END = "free"
DOUBTS = {"false", "pseudo", "maybe", "possible", "possibly", "suspected"}
# Parts may lack them, so without them they are good or not.
FEATURES = {"hole", "holes", "chip", "chips", "spot", "spots"}
# The abbreviation of 'number', which is no negation.
NUMBER = re.compile(r"(?<![^\W\d_])n[or][ ._-]*(?=\d)", re.I)
OF_MASKS = {"mask", "masks", "gt", "groundtruth", "maske", "masken", "masque", "masques", "mascara"}
# Parts of words after which a folder may well hold good parts.
LIKE_GOOD = re.compile("good|normal|^ok")
VERDICTS = {Role.GOOD, Role.BAD, Role.KIND}
# Letters of the second part of a word that is taken apart, so that few are by chance.
FEWEST_LETTERS = 4


def role_of(name: str) -> Role:
    """Returns what the name of a folder says about its images."""
    words = words_of(name)
    meaning = _meaning(words)
    if not meaning:
        return Role.ANY if words else Role.UNCLEAR
    role = ROLES.get("".join(meaning))
    if role is not None:
        return role
    if OF_MASKS & {*meaning}:
        return Role.MASKS
    if DOUBTS & {*meaning}:
        return Role.UNCLEAR
    if NEGATIONS & {*meaning}:
        return _negated(meaning)
    roles = {ROLES.get(word, Role.UNKNOWN) for word in meaning}
    if Role.MASKS in roles and roles <= {Role.MASKS, *SPLITS}:
        return Role.MASKS
    if Role.COPIES in roles and Role.UNKNOWN not in roles:
        return Role.COPIES
    like_good = any(LIKE_GOOD.search(word) for word in meaning if word not in ROLES)
    if Role.GOOD in roles or like_good:
        return Role.UNCLEAR
    return Role.KIND if roles & {Role.BAD, Role.KIND} else Role.UNKNOWN


def roles_of(name: str) -> list[Role]:
    """Returns all that the name of a folder says, which is two things if it is `test_good`."""
    words = _meaning(words_of(name))
    splits = [word for word in words if ROLES.get(word) in SPLITS]
    rest = role_of(" ".join(word for word in words if word not in splits))
    return [ROLES[splits[0]], rest] if len(splits) == 1 and rest in VERDICTS else [role_of(name)]


def _negated(meaning: list[str]) -> Role:
    """Returns what words say of which one is a negation."""
    if meaning[0] in NEGATIONS:
        rest = meaning[1:]
    else:
        rest = meaning[:-1] if meaning[-1] == NEGATING_END else []
    roles = {ROLES.get(word, Role.UNKNOWN) for word in rest}
    if roles == {Role.GOOD}:
        return Role.BAD
    clear = roles and roles <= {Role.BAD, Role.KIND} and FEATURES.isdisjoint(rest)
    return Role.GOOD if clear else Role.UNCLEAR


def _meaning(words: list[str]) -> list[str]:
    """Returns the words that say something, with those of known parts taken apart."""
    parts = [part for word in words for part in _parts_of(word)]
    meaning = [word for word in parts if ROLES.get(word) is not Role.ANY]
    return [word for word in meaning if word not in BESIDE] or meaning


def _parts_of(word: str) -> list[str]:
    """Takes apart words such as `uncracked`, `Gutbilder` and `testset`."""
    if word in ROLES:
        return [word]
    for start in range(1, len(word)):
        first, second = word[:start], word[start:]
        one, other = ROLES.get(first), ROLES.get(second)
        # A chipset is no set of chips.
        if one not in (None, Role.KIND, Role.UNCLEAR) and other is Role.ANY:
            return [first]
        if first in NEGATIONS and other in VERDICTS and len(second) >= FEWEST_LETTERS:
            return [first, second]
    return [word]


def mentions_defects(name: str) -> bool:
    """Returns whether a name has words of defects, whatever others say."""
    return any(ROLES.get(word) in (Role.BAD, Role.KIND) for word in _meaning(words_of(name)))


def is_time(name: str) -> bool:
    """Returns whether a name is that of a time, such as `2024-05-13`, `day2` or `Lot 7`."""
    words = words_of(name)
    return {*words} <= {*TIMES.split()} if words else DATE.fullmatch(name) is not None


def is_beside(name: str) -> bool:
    """Returns whether a name is that of a time or of a view, which is no kind of defect."""
    words = words_of(name)
    return is_time(name) or (bool(words) and BESIDE.issuperset(words))


def words_of(name: str) -> list[str]:
    """Returns the words of a name in lower case, without accents and numbers."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", NUMBER.sub("", name))
    return re.findall(r"[^\W\d_]+", in_plain_letters(apart))


def in_plain_letters(name: str) -> str:
    """Returns a name in lower case, without accents."""
    plain = unicodedata.normalize("NFKD", name)
    letters = "".join(one for one in plain if not unicodedata.combining(one)).casefold()
    # Turkish has an i without a dot.
    return letters.replace("\u0131", "i")


ROLES = {"".join(words_of(one)): role for role, names in NAMES.items() for one in names.split()}
