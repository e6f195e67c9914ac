#!/usr/bin/env python3
"""Our grading of final answers against the package math-verify's, pair by pair.

    pip install math-verify==0.9.0        (in a virtual environment)
    bazel build //environments:grade_pairs
    tools/peers/math_verify_grading.py bazel-bin/environments/grade_pairs

math_verify_grading.tsv beside this script lists the pairs on which the two
differ, each with a verdict. Exit 0 if that is what they differ on, 1 if not;
--write writes the list anew, with the verdicts that it has. By hand only: no
test and no build needs the package.
"""

import json
import os
import subprocess
import sys

LIST = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                    "math_verify_grading.tsv")

# A truth, and answers that mean the same, as models and data sets write them.
EQUAL = [
    ("42", ["42", "$42$", r"\(42\)", "**42**", r"\boxed{42}", r"\[42\]", "42.",
            "42.0", "+42", "#### 42", r"\boxed{\text{42}}", r"$\boxed{42}$",
            r"The answer is \boxed{42}.", r"\boxed{7} no, \boxed{42}",
            "$42.00", r"\boxed{\boxed{42}}", "`42`", "042", r"\boxed{4.2e1}",
            r"\boxed{4.2 \times 10^{1}}", "4200%", r"\boxed{ 42 }", r"\boxed{\$42}"]),
    ("1234", ["1,234", r"\boxed{1,234}", r"\boxed{1{,}234}", "$1,234.00",
              r"\boxed{\$1,234.00}", r"\boxed{1\,234}", r"\boxed{1,\!234}",
              r"\boxed{1234.0}", "**1,234**"]),
    ("1234567", ["1,234,567", r"\boxed{1,234,567}", r"\boxed{1\,234\,567}",
                 r"$1234567$"]),
    ("1,006", ["1006", r"\boxed{1006}", "#### 1,006", "1,006.0"]),
    ("1/2", [r"\boxed{\frac{1}{2}}", r"\boxed{\dfrac12}", r"\boxed{\tfrac{1}{2}}",
             "0.5", r"\boxed{.5}", r"\boxed{\frac12}", "2/4",
             r"\boxed{\frac{2}{4}}", r"\boxed{50\%}", "50%", "1 / 2",
             r"$\dfrac{1}{2}$"]),
    (r"\frac{3}{4}", ["0.75", "3/4", r"\boxed{\dfrac{3}{4}}", "75%",
                      r"\boxed{\frac{6}{8}}", r"\boxed{\frac34}"]),
    ("-3/2", [r"\boxed{-\frac{3}{2}}", r"\boxed{\frac{-3}{2}}", "-1.5",
              r"\boxed{-1\frac{1}{2}}", "-1 1/2", r"\boxed{\frac{3}{-2}}",
              "\u22121.5", r"\boxed{-\dfrac32}"]),
    (r"2\frac{1}{4}", ["9/4", "2.25", r"\boxed{\frac{9}{4}}", "2 1/4"]),
    ("1/3", [r"\boxed{\frac{1}{3}}", "2/6", r"\boxed{\frac{2}{6}}",
             r"$\frac13$"]),
    ("-5", [r"\boxed{-5}", "- 5", "\u22125", "-5.0", "$-5$", r"\boxed{-\$5}"]),
    ("0", ["-0", "0.0", r"\boxed{0}", "0/7", r"\boxed{\frac{0}{7}}"]),
    ("1500", [r"\boxed{1.5 \times 10^3}", "1.5e3", "1,500",
              r"\boxed{1.5\cdot 10^{3}}", "1.5\u00d710^3"]),
    ("0.002", [r"\boxed{2 \times 10^{-3}}", "2e-3", "1/500", "0.20%", ".002"]),
    ("9007199254740993", [r"\boxed{9007199254740993}", "9,007,199,254,740,993",
                          "9007199254740993.0", "18014398509481986/2"]),
    ("E", [r"\boxed{E}", r"\boxed{\text{E}}", "(E)", r"\boxed{\text{(E)}}",
           r"\boxed{\textbf{(E)}}", r"\boxed{\mathrm{E}}", "**E**", "E."]),
    ("2, 3", ["2,3", r"\boxed{2, 3}", r"\boxed{2,3}", "$2$, $3$",
              r"\boxed{2,\,3}", "2.0, 3"]),
    ("(2, 3)", ["(2,3)", r"\boxed{\left(2,3\right)}", r"\boxed{(2, 3)}",
                r"\boxed{(2.0, 6/2)}"]),
    (r"\left(\frac{1}{2}, -4\right)", [r"\boxed{(1/2,-4)}",
                                       r"\boxed{\left(\dfrac12,-4\right)}",
                                       r"\boxed{(0.5, -4)}"]),
    (r"\{1, 2, 3\}", [r"\boxed{\{1,2,3\}}", r"\boxed{\left\{1,2,3\right\}}",
                      r"\boxed{\{1, \frac{4}{2}, 3\}}"]),
    ("[2, 5)", [r"\boxed{[2,5)}", r"\boxed{\left[2, 5\right)}"]),
    ("x^2+1", [r"\boxed{x^2 + 1}", r"\boxed{x^{2}+1}", "$x^2+1$"]),
    (r"\sqrt{2}", [r"\boxed{\sqrt2}", r"\boxed{\sqrt{2}}", r"$\sqrt{2}$",
                   r"\boxed{\sqrt 2}"]),
    (r"\frac{\pi}{2}", [r"\boxed{\frac{\pi}2}", r"\boxed{\frac\pi2}",
                        r"\boxed{\frac \pi 2}"]),
    (r"\frac{a}{b}", [r"\boxed{\frac ab}"]),
    (r"\frac{1}{2}x", [r"\boxed{\frac12x}", r"\boxed{\frac{1}{2} x}"]),
    (r"90^\circ", [r"\boxed{90^{\circ}}", "90\u00b0"]),
    (r"x \le 3", [r"\boxed{x\leq 3}", r"\boxed{x \leqslant 3}", "$x \u2264 3$"]),
    ("(1,2)", [r"\boxed{\big(1,2\big)}", r"\boxed{\left( {1,2} \right)}",
               r"\boxed{(1,~2)}"]),
    (r"\binom{5}{2}", [r"\boxed{\dbinom{5}{2}}"]),
    (r"\{3, 100\}", [r"\boxed{{3,100}}", r"\boxed{\{3,100\}}", "{3, 100}"]),
    (r"\begin{pmatrix}1/2&2\\3&4\end{pmatrix}",
     [r"\boxed{\begin{pmatrix}\frac12 & 2\\ 3 & 4\end{pmatrix}}"]),
    (r"(-\infty,1/2)\cup(2,3]",
     [r"\boxed{(-\infty, \frac12) \cup (2, 3]}",
      "(-\u221e, 1/2) \u222a (2, 3]"]),
    ("1234", [r"\boxed{\mathbf{1234}}", r"\boxed{{\bf 1234}}",
              r"\boxed{\boldsymbol{1234}}", r"\boxed{\underline{1234}}",
              r"\boxed{1234\$}", "__1234__", "```\n1234\n```"]),
    (r"\frac{\pi}{2}", [r"\boxed{\dfrac{\pi}{2}}", r"\boxed{\frac{\pi}{2}}"]),
    (r"2\pi", [r"\boxed{2 \pi}", r"\boxed{2\pi}"]),
    (r"\frac{\sqrt{3}}{2}", [r"\boxed{\dfrac{\sqrt{3}}{2}}"]),
    ("drow", ["drow", "**drow**", r"\boxed{\text{drow}}"]),
    ("5 cm", [r"\boxed{5\text{ cm}}", r"\boxed{5\,\text{cm}}"]),
    ("100", ["10^2", r"\boxed{10^{2}}"]),
    ("5", ["x = 5", r"\boxed{x=5}", r"\boxed{5\text{ cm}}", "5 apples",
           r"\boxed{2+3}", "The answer is 5", "So it is 5.", r"\boxed{\sqrt{25}}"]),
    ("90", [r"\boxed{90^\circ}", r"\boxed{90^{\circ}}"]),
    ("50%", ["0.5", r"\boxed{50\%}", "50 %", r"\boxed{\frac12}"]),
    ("1,2", [r"\boxed{1} and \boxed{2}", "1 and 2", r"\boxed{1 \text{ and } 2}"]),
    (r"\{1, 2\}", [r"\boxed{\{2, 1\}}"]),
    (r"\frac{\sqrt{2}}{2}", [r"\boxed{\frac{1}{\sqrt{2}}}"]),
    ("x^2+1", [r"\boxed{1+x^2}"]),
    ("(-\\infty, 3]", [r"\boxed{x \le 3}", r"\boxed{(-\infty,3]}"]),
    ("4/6", ["2/3", r"\boxed{\frac{2}{3}}", "0.6667"]),
]

# A truth, and answers that mean something else, or that cheat.
UNEQUAL = [
    ("42", ["43", "-42", "4 2", "42 or 43", "41 42", "42,43", "4,2", "420",
            r"\boxed{42} or \boxed{43}", r"\boxed{}", r"\boxed{42", "42/0",
            "42/1/1", "--42", "42..", "42.0.0", "nan", "", r"\boxed{[42]}",
            r"\boxed{7} so it is \boxed{", r"\boxed{42} so it is \boxed{",
            r"\boxed{41, 42, 43}", r"\boxed{41 \boxed{42}}",
            r"\boxed{42\%}", "42%", "42.0000000001", "42e1", "0x2a0",
            r"\boxed{41 \text{ or } 42}", "#### 42 #### 43", r"\boxed{4\,2}",
            "not 42", r"\boxed{42 \neq 43}", r"\boxed{x}", r"\boxed{42i}",
            "\u0664\u0663", r"\boxed{42^2}", r"\boxed{\{41,42\}}", "4.2",
            r"\boxed{42,}", r"\boxed{24}"]),
    ("7", [r"\boxed{7} so it is \boxed{8", "7 8", "-7", "7^2", "07.5", "7,000",
           r"\boxed{1,2,3,4,5,6,7}", "1/7", "7/2"]),
    ("1234", ["1, 234", "1,23,4", "12,34", "1.234", "1234,567", "(1, 234)",
              "123.4"]),
    ("123", ["0,123", "1,23", "0.123", "12,3"]),
    ("1/2", ["2", "2/1", "1/3", "0.51", "0.4999999999999999999", "-1/2",
             "1/2/2", r"\boxed{\frac{1}{2}3}", "1, 2", "12", "5%", "500%"]),
    ("1/3", ["0.333", "0.33", "0.3333333333333333", "3", "1/33",
             r"\boxed{0.333333333333333333333333}"]),
    ("9007199254740993", ["9007199254740992", "9007199254740994",
                          "9007199254740992.9", "9.007199254740992e15"]),
    ("1" + "0" * 30 + "1", ["1" + "0" * 31, "1e31", "1" + "0" * 30 + "2"]),
    ("E", ["e", "F", "A, B, C, D, E", r"\boxed{A} \boxed{B}", "A or E",
           r"\boxed{\text{A, E}}", "None"]),
    ("drow", ["Drow", "word", "drow drow", "dr ow"]),
    ("2, 3", ["2", "3", "2, 3, 4", "2.3", "23", "2 3"]),
    ("(2, 3)", ["[2, 3]", "(3, 2)", "(2, 3]", "(2, 3, 4)", "5"]),
    ("[2, 5)", ["[2, 5]", "(2, 5)", "(2, 5]"]),
    (r"\{1, 2, 3\}", ["(1, 2, 3)", r"\boxed{\{1, 2\}}", r"\boxed{\{1,2,3,4\}}"]),
    ("x^2+1", ["x^2-1", "x^3+1", "x^{2+1}", "2x+1"]),
    (r"\sqrt{2}", ["2", "1.41", "1.41421356", r"\boxed{\sqrt{3}}", r"\boxed{\sqrt{20}}"]),
    ("3100", [r"\boxed{{3,100}}", r"\boxed{(3,100)}", r"\boxed{\{3,100\}}",
              r"\boxed{\langle 3,100\rangle}"]),
    ("x_{1234}", [r"\boxed{x_{1,234}}"]),
    ("0.5", [r"\boxed{\left.5\right.}"]),
    ("42", ["4\v2", "4\x012"]),
    (r"\frac{\pi}{23}", [r"\boxed{\frac\pi23}"]),
    (r"\frac{a}{bc}", [r"\boxed{\frac abc}"]),
    (r"2\pi", ["6.28", r"\boxed{\pi}", r"\boxed{2\pi r}", "6.283185307"]),
    ("0", ["1e-30", "-1", "", "o", "1e-400"]),
    ("0.002", ["0.02", "2e-4", "2%"]),
    ("100", ["1e400", "100.5", "99.99999999999999", "10^20", "1e2000"]),
]


def pairs():
    for equal, table in ((True, EQUAL), (False, UNEQUAL)):
        for truth, answers in table:
            for answer in answers:
                yield answer, truth, equal


def ours(binary, all_pairs):
    lines = "".join(json.dumps([a, t]) + "\n" for a, t, _ in all_pairs)
    done = subprocess.run([binary], input=lines, text=True, check=True,
                          capture_output=True)
    return [line == "1" for line in done.stdout.split()]


def theirs(all_pairs):
    import logging
    logging.disable(logging.CRITICAL)
    from math_verify import (ExprExtractionConfig, LatexExtractionConfig,
                             StringExtractionConfig, parse, verify)
    config = (LatexExtractionConfig(), ExprExtractionConfig(),
              StringExtractionConfig())
    results = []
    for answer, truth, _ in all_pairs:
        gold = truth if truth.isalpha() else "$" + truth + "$"
        results.append(verify(parse(gold, config), parse(answer, config)))
    return results


def main():
    write = "--write" in sys.argv
    binary = [a for a in sys.argv[1:] if not a.startswith("--")]
    if len(binary) != 1:
        sys.exit(__doc__)
    all_pairs = list(pairs())
    us, them = ours(binary[0], all_pairs), theirs(all_pairs)
    verdicts = {}
    if os.path.exists(LIST):
        with open(LIST, encoding="utf-8") as file:
            for line in file:
                if not line.startswith("#"):
                    answer, truth, we, they, verdict = line.rstrip("\n").split("\t")
                    verdicts[json.loads(answer), json.loads(truth), we, they] = verdict
    found = {}
    wrong = 0
    for (answer, truth, equal), we, they in zip(all_pairs, us, them):
        wrong += we and not equal
        if we != they:
            key = answer, truth, "equal" if we else "unequal", "equal" if they else "unequal"
            found[key] = verdicts.get(key, "?")
    print(f"{len(all_pairs)} pairs, {len(found)} differ; ours calls {wrong} "
          "equal that are meant to be unequal")
    if write:
        with open(LIST, "w", encoding="utf-8") as file:
            file.write("# answer\ttruth\tours\tmath-verify's\tverdict\n")
            for (answer, truth, we, they), verdict in found.items():
                file.write("\t".join([json.dumps(answer, ensure_ascii=False),
                                      json.dumps(truth, ensure_ascii=False),
                                      we, they, verdict]) + "\n")
    for key in found.keys() - verdicts.keys():
        print("not listed:", *key)
    for key in verdicts.keys() - found.keys():
        print("listed, but they agree:", *key)
    sys.exit(found.keys() != verdicts.keys() or "?" in found.values() or wrong > 0)


if __name__ == "__main__":
    main()
