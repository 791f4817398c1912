"""Numbers of topics: always the lowest free one."""

from __future__ import annotations

from random import Random

from pubsub.journals.numbers import Numbers


def test_the_lowest_free_number_comes_first() -> None:
    assert Numbers([]).lowest == 1
    assert Numbers([1, 2, 3]).lowest == 4
    numbers, found = Numbers([2, 5]), list[int]()
    for _ in range(5):
        found.append(numbers.lowest)
        numbers.take()
    assert found == [1, 3, 4, 6, 7]
    numbers.give_back(3)
    numbers.give_back(1)
    assert numbers.lowest == 1


def test_numbers_as_a_set_would_give_them() -> None:
    random = Random(1)
    taken = set(random.sample(range(1, 50), 20))
    numbers = Numbers(sorted(taken))
    for _ in range(500):
        if taken and random.random() < 0.5:
            number = random.choice(sorted(taken))
            taken.remove(number)
            numbers.give_back(number)
        else:
            assert numbers.lowest == min(set(range(1, 1000)) - taken)
            taken.add(numbers.lowest)
            numbers.take()
