"""What names of folders say, in any case and in several languages."""

from __future__ import annotations

import unicodedata

import pytest

from sia_gen.images.words import NAMES, ROLES, Role, is_time, role_of, roles_of

GOOD = "good GOOD Ok OK_parts parts_ok good-2 GoodParts OKTeile i.O. io gut Gutteile bon conforme "
GOOD += "bueno normal no_defect defect-free Sans_Défaut 良品 ok_front good_batch2 OK-top-view "
# Negations, and words of known parts.
GOOD += "no_crack NoCrack crack_free uncracked undefective non-defective free_of_defects Gutbilder "
GOOD += "okparts senza_difetti sem_defeito bez_vady v_pořádku 양품 정상 正常画像 OK品 sağlam dobrý "
GOOD += "einwandfrei Unbeschädigt flawless aprobados 合格品 不良なし 정상품 "
GOOD += "godkänd 良品データ OK图 хороший part_no_3_ok"
BAD = "bad Bad_2 NG nok KO n.i.O. nio not_ok NotGood nicht-io schlecht Défauts mauvais malo "
BAD += "defective Anomalies ABNORMAL faulty reject Ausschuss 不良品 def_front NG_cam2 zły non_good "
BAD += "beschädigt Mängel incorrect 不合格品 瑕疵品 "
BAD += "NOT_PASS NonConforming não_conforme unhealthy Schlechtbilder 불량 NG品 HATALI No.3_defect"
KIND = "scratch broken_top Scratch_large faulty_imprint crack3 ng_scratch Kratzer rayure grietas"
KIND += " abnormal_b graffio 划痕 キズ 찍힘"
UNCLEAR = "good_old ok_or_nok normal_scratch not_cleaned goodies positive 0 2024-05 class_1 "
UNCLEAR += "no_hole no_label false_ng defect_no not_defective_ok No3 review borderline"
UNKNOWN = "day1 front left_view bottle thread oil line4 book smokey thumb_screw unit node chipset"


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (GOOD, Role.GOOD),
        (BAD, Role.BAD),
        (KIND, Role.KIND),
        (UNCLEAR, Role.UNCLEAR),
        (UNKNOWN, Role.UNKNOWN),
        ("train Training train_images TRAINSET Trainingsdaten 训练集 学習 학습", Role.TRAIN),
        ("val validation valid Validierung 验证 検証 검증", Role.VALIDATION),
        (
            "test Testing test_set2 Testbilder testset test_public Prüfung Testdaten 测试集 テスト",
            Role.TEST,
        ),
        (
            "ground_truth GroundTruth GT Mask train_labels label defect_masks Masken_niO Seg "
            "Maschere 掩码 マスク",
            Role.MASKS,
        ),
        ("heatmaps preview Thumb NG_overlay depth", Role.COPIES),
        ("images IMG photos_2 parts", Role.ANY),
    ],
)
def test_names_are_understood_in_any_case(names: str, role: Role) -> None:
    for name in names.split():
        assert role_of(name) is role, name
        # As some file systems write names with accents.
        assert role_of(unicodedata.normalize("NFD", name)) is role, name


def test_blanks_divide_words_as_well() -> None:
    assert role_of("not ok") is Role.BAD
    assert role_of("OK parts 2") is Role.GOOD
    assert role_of("n. i. O.") is Role.BAD


def test_names_may_say_two_things() -> None:
    assert roles_of("test_good 2") == [Role.TEST, Role.GOOD]
    assert roles_of("uncracked-train") == [Role.TRAIN, Role.GOOD]
    for name in ("test", "test_images", "train_test", "test_a", "good", "x", "2"):
        assert roles_of(name) == [role_of(name)]


def test_no_word_has_two_meanings() -> None:
    words = [word for text in NAMES.values() for word in text.split()]
    assert len(ROLES) == len(set(words)) == len(words)
    assert all(role_of(word) is role for word, role in ROLES.items())


def test_times_are_told_from_other_numbers_and_names() -> None:
    times = ["2024", "2024-05", "2024-05-13", "20240513", "13.05.2024", "2024-05-13_14-30", "day2"]
    times += ["20240513_143000", "Lot 7", "Schicht 2", "batch_12", "Los 7", "KW19", "März 24"]
    assert [name for name in times if not is_time(name)] == []
    others = ["1", "07", "12345678901", "2024x", "99-99-2024", "good", "line4", "day2_good", ""]
    assert [name for name in others if is_time(name)] == []
