"""What the name of a folder says about the images in it, in any case and in several languages.

A name is read as its words: `OK_parts 2` is `ok`, because words such as `parts` and numbers say
nothing. All other words together must be known. So `not_good` is not `good`, and `good_old` is
unclear.
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
    ANY = "images"
    UNCLEAR = "a name of several meanings"
    UNKNOWN = "another name"


SPLITS = (Role.TRAIN, Role.VALIDATION, Role.TEST)
NAMES = {
    Role.GOOD: """
        good ok okay normal normals pass passed accept accepted undamaged defectfree anomalyfree
        nodefect nodefects noanomaly noanomalies nondefective nonanomalous withoutdefects conforming
        gut gute gutteil gutteile io inordnung fehlerfrei ohnefehler normale
        bon bons bonne bonnes conforme conformes sansdefaut sansdefauts
        bueno buenos buena buenas sindefecto sindefectos correcto correctos
        buono buoni buona buone conformi goed bom boas 良品 合格 正常
    """,
    Role.BAD: """
        bad def ng nok ko notok notgood nogood notnormal nonnormal unnormal
        defect defects defected defective defectives anomaly anomalies anomalous abnormal abnormals
        abnormality abnormalities fault faults faulty fail failed failure failures flaw flaws flawed
        reject rejects rejected scrap nonconforming damage damages damaged
        schlecht schlechte schlechtteil schlechtteile nio nichtok nichtio nichtinordnung
        nichtgut fehler fehlerhaft defekt defekte anomalie ausschuss
        mauvais mauvaise mauvaises pasbon defaut defauts defectueux nonconforme nonconformes rebut
        rebuts malo malos mala malas defecto defectos defectuoso defectuosos rechazo rechazados
        noconforme noconformes difetto difetti difettoso difettosi scarto scarti defeito defeitos
        不良 不良品 不合格 异常 異常 缺陷 欠陥
    """,
    # A kind of defect, whatever other words stand beside them.
    Role.KIND: """
        scratch scratches scratched dent dents dented crack cracks cracked hole holes stain stains
        contamination contaminated broken breakage bent missing misplaced rust rusty
        corrosion burr burrs chip chips chipped chipping bubble bubbles spot spots discoloration
        discolouration deformed deformation pit pits pitting inclusion inclusions porosity pore
        pores void voids tear tears torn wear worn fracture fractured
        kratzer delle dellen riss risse fleck flecken rost bruch grat lunker einschluss
        rayure rayures bosse bosses fissure fissures tache taches rouille
        rayado aranazo abolladura grieta grietas mancha manchas agujero oxido
    """,
    Role.TRAIN: "train training trainset trainingset learn learning entrainement entrenamiento",
    Role.VALIDATION: "val valid validation validate validationset valset dev",
    Role.TEST: "test testing tests testset eval evaluation prueba pruebas",
    Role.MASKS: """
        groundtruth groundtruths gt gts mask masks label labels annotation annotations segmentation
        segmentations masken maske masque masques mascara mascaras
    """,
    # They say nothing about the images, whatever words stand beside them.
    Role.ANY: """
        image images img imgs picture pictures pic pics photo photos foto fotos bild bilder imagen
        imagenes frame frames data dataset set rgb part parts teil teile piece pieces pieza piezas
        sample samples item items product products raw original
    """,
    Role.UNCLEAR: """
        positive positives negative negatives pos neg true false yes no class classes a b mixed all
        unlabeled unlabelled unknown other others misc unsorted
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
# Words that turn the meaning of others around.
NEGATIONS = {"not", "no", "non", "without", "free", "nicht", "kein", "keine", "ohne", "pas", "sans"}
ROLES = {name.lower(): role for role, names in NAMES.items() for name in names.split()}
OF_MASKS = {"mask", "masks", "gt", "groundtruth", "maske", "masken", "masque", "masques", "mascara"}
# Parts of words after which a folder may well hold good parts.
LIKE_GOOD = re.compile("good|normal|^ok")


def role_of(name: str) -> Role:
    """Returns what the name of a folder says about its images."""
    words = words_of(name)
    meaning = [word for word in words if ROLES.get(word) is not Role.ANY]
    if not meaning:
        return Role.ANY if words else Role.UNCLEAR
    meaning = [word for word in meaning if word not in BESIDE] or meaning
    role = ROLES.get("".join(meaning))
    if role is not None:
        return role
    roles = {ROLES.get(word, Role.UNKNOWN) for word in meaning}
    if OF_MASKS & set(meaning):
        return Role.MASKS
    like_good = any(LIKE_GOOD.search(word) for word in meaning if word not in ROLES)
    if Role.GOOD in roles or NEGATIONS & set(meaning) or like_good:
        return Role.UNCLEAR
    return Role.KIND if roles & {Role.BAD, Role.KIND} else Role.UNKNOWN


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
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.findall(r"[^\W\d_]+", in_plain_letters(apart))


def in_plain_letters(name: str) -> str:
    """Returns a name in lower case, without accents."""
    plain = unicodedata.normalize("NFKD", name)
    return "".join(one for one in plain if not unicodedata.combining(one)).casefold()
