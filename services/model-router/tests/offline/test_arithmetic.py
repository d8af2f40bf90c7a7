"""Arithmetic in questions, written and worded, English and Chinese."""

import pytest

from meshwright_model_router.providers.offline.arithmetic import find_calculation
from meshwright_model_router.providers.offline.numerals import with_digits


@pytest.mark.parametrize(
    ("question", "expression", "spoken"),
    [
        ("what is 17.5% of 2,480?", "17.5 / 100 * 2480", "17.5% of 2,480"),
        ("12*(3+4)", "12*(3+4)", "12*(3+4)"),
        ("sqrt(2)", "sqrt(2)", "sqrt(2)"),
        ("Compute 2^10", "2^10", "2^10"),
        ("what's twelve times eight?", "12 * 8", "twelve times eight"),
        ("2 to the power of 10", "2 ** 10", "2 to the power of 10"),
        ("10 squared", "10 ** 2", "10 squared"),
        ("sum of 3, 4 and 5", "3 + 4 + 5", "sum of 3, 4 and 5"),
        ("average of 10, 20 and 30", "(10 + 20 + 30) / 3", "average of 10, 20 and 30"),
        ("half of 90", "90 / 2", "half of 90"),
        ("20% off 80", "80 * (1 - 20 / 100)", "20% off 80"),
        ("how much is 1,250.50 + 99?", "1250.50 + 99", "1,250.50 + 99"),
        ("5!", "factorial(5)", "factorial(5)"),
        ("the square root of 144 plus 6?", "sqrt(144) + 6", "the square root of 144 plus 6"),
        ("(1+2)*3 =", "(1+2)*3", "(1+2)*3"),
        ("-5 + 3", "-5 + 3", "-5 + 3"),
        ("max(1, 2, 3) * pi", "max(1, 2, 3) * pi", "max(1, 2, 3) * pi"),
        ("What is 3 + 4? And the time in Tokyo?", "3 + 4", "3 + 4"),
        ("计算 3 加 5", "3 + 5", "3 加 5"),
        ("三加五等于多少？", "3 + 5", "三加五"),
        ("144的平方根是多少", "sqrt(144)", "144的平方根"),
        ("2480的17.5%是多少", "2480 * 17.5 / 100", "2480的17.5%"),
        ("100 除以 4", "100 / 4", "100 除以 4"),
        ("请计算 (12+8)×3÷4", "(12+8) * 3 / 4", "(12+8)×3÷4"),  # noqa: RUF001 -- as people write
        ("两百五十减去八十", "250 - 80", "两百五十减去八十"),
        ("3 和 5 的和是多少", "3 + 5", "3 和 5 的和"),
    ],
)
def test_calculation_is_found(question: str, expression: str, spoken: str) -> None:
    found = find_calculation(question)
    assert found is not None
    assert (found.expression, found.spoken) == (expression, spoken)


@pytest.mark.parametrize(
    "question",
    [
        "What is Debian 12?",
        "on 2024-01-15 we released version 1.2.3",
        "see pages 3-5",
        "call 555-1234",
        "What is in 802.11-2016?",
        "what is 24/7 support",
        "It costs 5 dollars",
        "we need 3 people and 4 cars",
        "which is larger, 5 or 7",
        "一个人有两个苹果",
        "How do I use tar -xzf file-1.2.tar.gz?",
        "what is the 3rd chapter",
        "what is IPv4/IPv6?",
        "fetch https://example.com/1+1",
        "",
        "(" * 5000,
        "1+" * 900 + "1",
        "what is __import__('os').system('ls') + 1",
    ],
)
def test_what_is_no_calculation_is_left_alone(question: str) -> None:
    assert find_calculation(question) is None


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("twenty-one", "21"),
        ("one hundred and five", "105"),
        ("two million three hundred thousand", "2300000"),
        ("十二", "12"),
        ("三百二十", "320"),
        ("一万五千", "15000"),
        ("两亿", "200000000"),
        ("二〇二六", "2026"),
        ("tone and often", "tone and often"),
    ],
)
def test_number_words_become_digits(text: str, digits: str) -> None:
    assert with_digits(text) == digits
