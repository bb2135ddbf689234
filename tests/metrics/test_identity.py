import math

import pytest
import torch

from lit_face.metrics.identity import (
    IdentityCosine,
    VerificationAUC,
    identity_cosine,
    verification,
)


def test_cosines_of_known_angles():
    first = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    second = torch.tensor([[3.0, 0.0], [0.0, 5.0], [-1.0, 1.0], [1.0, 0.0]])
    expected = torch.tensor([1.0, 0.0, -math.sqrt(0.5), 0.0])
    torch.testing.assert_close(identity_cosine(first, second), expected)


def test_people_that_are_apart_are_told_apart_and_copies_are_not():
    person = torch.tensor([0, 0, 1, 1, 2, 2])
    apart = torch.eye(3)[person]
    assert verification(apart, person)[:2] == (1.0, 1.0)
    assert verification(apart, person).same == 3
    assert verification(apart, person).different == 12
    alike = torch.ones(6, 3)
    assert verification(alike, person)[:2] == (0.5, 0.5)


def test_the_area_is_the_share_of_ordered_pairs():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 4, generator=generator)
    person = torch.arange(12) // 3
    unit = features / features.norm(dim=1, keepdim=True)
    pairs = [
        (float(unit[i] @ unit[j]), bool(person[i] == person[j]))
        for i in range(12)
        for j in range(i)
    ]
    same = [value for value, is_same in pairs if is_same]
    other = [value for value, is_same in pairs if not is_same]
    wins = sum(a > b for a in same for b in other) / (len(same) * len(other))
    thresholds = [value for value, _ in pairs]
    best = max(
        sum(a > t for a in same) / len(same) + sum(b <= t for b in other) / len(other)
        for t in thresholds
    )
    found = verification(features, person)
    assert found.auc == pytest.approx(wins, abs=1e-9)
    assert found.accuracy == pytest.approx(best / 2, abs=1e-9)


def test_one_person_alone_says_nothing():
    assert math.isnan(verification(torch.rand(3, 4), torch.zeros(3, dtype=torch.int64)).auc)


def test_metrics_join_batches():
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    person = torch.arange(8) // 2
    metric, cosine = VerificationAUC(), IdentityCosine()
    for part in (slice(0, 3), slice(3, 8)):
        metric.update(features[part], person[part])
        cosine.update(features[part], features[part].flip(1))
    assert float(metric.compute()["auc"]) == pytest.approx(verification(features, person).auc)
    values = identity_cosine(features, features.flip(1))
    assert float(cosine.compute()["mean"]) == pytest.approx(float(values.mean()), abs=1e-6)
    assert float(cosine.compute()["std"]) == pytest.approx(
        float(values.std(correction=0)), abs=1e-6
    )
