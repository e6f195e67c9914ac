#!/usr/bin/env python3
"""humaneval.py takes for right what the grader does, by the table of both."""

import math
import os
import sys
import unittest

sys.dont_write_bytecode = True
FOLDER = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, FOLDER)
import humaneval


def value(text):
  return eval(text, {'nan': math.nan, 'inf': math.inf})


class TestHumanEval(unittest.TestCase):

  def test_passes_what_the_table_says(self):
    cases = 0
    with open(os.path.join(FOLDER, 'value_check.tsv')) as file:
      for line in file:
        if line.startswith('#'):
          continue
        check, tolerance, args, expected, got, passes = line.rstrip(
            '\n').split('\t')
        test = humaneval.Test([value(args)] if args else [], value(expected),
                              check, float(tolerance))
        with self.subTest(line=line):
          self.assertEqual(test.passes(value(got)), passes == 'yes')
        cases += 1
    self.assertGreaterEqual(cases, 90)

  def test_further_tests_are_the_canonical_solutions(self):
    tests = humaneval.further_tests(34, lambda args: sorted(set(args[0])))
    self.assertEqual(len(tests), 12)
    for test in tests:
      self.assertEqual(test.value, sorted(set(test.args[0])))
    self.assertEqual(humaneval.further_tests(33, None), [])


if __name__ == '__main__':
  unittest.main()
