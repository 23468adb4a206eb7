"""What the demo checkpoint is taught: pictures' subjects, questions and answers.

A subject is ("fashion", class 0..9), ("number", 0..99) or ("dots", 1..9).
"""

from __future__ import annotations

import dataclasses
import random

from reference.prompt import END, START

Subject = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Item:
    label: str
    phrase: str
    chinese: str
    group: str
    chinese_group: str


CLASSES = (
    Item("T-shirt", "a T-shirt", "T恤", "Clothing", "衣服"),
    Item("Trousers", "a pair of trousers", "裤子", "Clothing", "衣服"),
    Item("Pullover", "a pullover", "套头衫", "Clothing", "衣服"),
    Item("Dress", "a dress", "连衣裙", "Clothing", "衣服"),
    Item("Coat", "a coat", "外套", "Clothing", "衣服"),
    Item("Sandal", "a sandal", "凉鞋", "Footwear", "鞋"),
    Item("Shirt", "a shirt", "衬衫", "Clothing", "衣服"),
    Item("Sneaker", "a sneaker", "运动鞋", "Footwear", "鞋"),
    Item("Bag", "a bag", "包", "Bag", "包"),
    Item("Ankle boot", "an ankle boot", "短靴", "Footwear", "鞋"),
)
NAME = ("What is this?", "What is in the picture?", "What is shown in the image?",
        "Name this item.", "What do you see?")
NAME_CHINESE = ("这是什么？", "图里是什么？", "图片里有什么？")
DESCRIBE = ("Describe the picture.", "Please describe this image in detail.")
DESCRIBE_CHINESE = ("请描述这张图片。",)
GROUP = ("Is it clothing, footwear or a bag?", "Which kind of item is it?")
GROUP_CHINESE = ("这是衣服、鞋还是包？",)
READ = ("Which number is this?", "Read the number.", "What number do you see?")
READ_CHINESE = ("这是什么数字？",)
COUNT = ("How many dots are there?", "Count the dots.")
COUNT_CHINESE = ("有几个点？",)


def label(subject: Subject) -> str:
    kind, value = subject
    return CLASSES[value].label if kind == "fashion" else "Number" if kind == "number" else "Dots"


def phrase(subject: Subject) -> str:
    kind, value = subject
    if kind == "fashion":
        return CLASSES[value].phrase
    if kind == "number":
        return f"the number {value}"
    return f"{value} dots" if value > 1 else "1 dot"


def chinese(subject: Subject) -> str:
    kind, value = subject
    if kind == "fashion":
        return CLASSES[value].chinese
    return f"数字{value}" if kind == "number" else f"{value}个点"


def confirm(subject: Subject, asked: int) -> tuple[str, str]:
    """Yes/no question about class `asked` and its answer."""
    item = CLASSES[asked]
    if subject == ("fashion", asked):
        return f"Is this {item.phrase}?", f"Yes, this is {item.phrase}."
    verb = "these are" if subject[0] == "dots" and subject[1] > 1 else "this is"
    return f"Is this {item.phrase}?", f"No, {verb} {phrase(subject)}."


def confirm_chinese(subject: Subject, asked: int) -> tuple[str, str]:
    item = CLASSES[asked]
    if subject == ("fashion", asked):
        return f"这是{item.chinese}吗？", f"是的，这是{item.chinese}。"
    return f"这是{item.chinese}吗？", f"不是，这是{chinese(subject)}。"


def ask(subject: Subject, rng: random.Random) -> tuple[str, str]:
    """One question about a picture and its answer."""
    draw = rng.random()
    if draw < 0.15:
        return rng.choice(DESCRIBE), f"The picture shows {phrase(subject)}."
    if draw < 0.20:
        return rng.choice(DESCRIBE_CHINESE), f"图片里是{chinese(subject)}。"
    if draw < 0.45:
        truth = subject[0] == "fashion" and rng.random() < 0.5
        asked = subject[1] if truth else rng.randrange(len(CLASSES))
        make = confirm if rng.random() < 0.7 else confirm_chinese
        return make(subject, asked)
    if draw < 0.60:
        return rng.choice(NAME_CHINESE), chinese(subject)
    if subject[0] == "number":
        return rng.choice(READ if draw < 0.85 else READ_CHINESE), str(subject[1])
    if subject[0] == "dots":
        return rng.choice(COUNT if draw < 0.85 else COUNT_CHINESE), str(subject[1])
    if draw < 0.70:
        return rng.choice(GROUP), CLASSES[subject[1]].group
    if draw < 0.75:
        return rng.choice(GROUP_CHINESE), CLASSES[subject[1]].chinese_group
    return name(subject, rng)


def name(subject: Subject, rng: random.Random) -> tuple[str, str]:
    """The main question: what is this?"""
    return rng.choice(NAME), label(subject)


def turn(question: str) -> str:
    """What follows the picture, up to the answer."""
    return f"{question}{END}\n{START}assistant\n"


def next_turn(question: str) -> str:
    """What follows an answer and its end marker, up to the next answer."""
    return f"\n{START}user\n{question}{END}\n{START}assistant\n"


def all_texts() -> list[str]:
    """Every question and answer once, to train the tokenizer on."""
    subjects = [("fashion", c) for c in range(len(CLASSES))]
    subjects += [("number", n) for n in range(100)] + [("dots", n) for n in range(1, 10)]
    texts = [*NAME, *NAME_CHINESE, *DESCRIBE, *DESCRIBE_CHINESE, *GROUP, *GROUP_CHINESE, *READ,
             *READ_CHINESE, *COUNT, *COUNT_CHINESE]
    texts += [g for item in CLASSES for g in (item.group, item.chinese_group)]
    for subject in subjects:
        texts += [label(subject), chinese(subject), f"The picture shows {phrase(subject)}.",
                  f"图片里是{chinese(subject)}。"]
        for asked in range(len(CLASSES)):
            texts += [*confirm(subject, asked), *confirm_chinese(subject, asked)]
    return sorted(set(texts))
