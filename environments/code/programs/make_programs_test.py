#!/usr/bin/env python3
"""make_programs.py makes tasks of any seed that no constant output solves."""

import collections
import json
import os
import subprocess
import sys
import tempfile
import unittest

# No cache of compiled modules beside the sources.
sys.dont_write_bytecode = True
FOLDER = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, FOLDER)
import families
import make_programs

SCRIPT = os.path.join(FOLDER, 'make_programs.py')
SEEDS = range(1, 51)


def text_of(path):
  with open(path) as file:
    return file.read()


class TestMakePrograms(unittest.TestCase):

  def test_tasks_of_many_seeds(self):
    for seed in SEEDS:
      with self.subTest(seed=seed):
        tasks, solutions = make_programs.make_all(seed)
        self.assertEqual(len(tasks), 200)
        self.assertEqual([t['id'] for t in tasks], [s['id'] for s in solutions])
        # Without the language, which is one of two.
        statements = {t['messages'][0]['content'].partition('stdout. ')[2]
                      for t in tasks}
        self.assertEqual(len(statements), 200)
        for task, solution in zip(tasks, solutions):
          self.expect_sound(json.loads(task['payload_json']), solution)

  def expect_sound(self, payload, solution):
    inputs = [c['stdin'] for c in payload['examples'] + payload['tests']]
    self.assertEqual(len(set(inputs)), 8, solution['id'])
    outputs = collections.Counter(
        ' '.join(test['stdout'].split()) for test in payload['tests'])
    self.assertEqual(sum(outputs.values()), 6)
    self.assertGreaterEqual(len(outputs), 3, solution['id'])
    self.assertLessEqual(max(outputs.values()), 3, solution['id'])
    self.assertTrue(any(
        (make_programs.output_of(solution['wrong_python'], test['stdin']) or
         '').split() != test['stdout'].split() for test in payload['tests']),
                    solution['id'])
    self.assertNotEqual(solution['cpp'], solution['wrong_cpp'])

  def test_one_seed_is_one_set_of_tasks(self):
    self.assertEqual(make_programs.make_all(7), make_programs.make_all(7))
    self.assertNotEqual(make_programs.make_all(7), make_programs.make_all(8))

  def test_a_wrong_solution_that_no_input_tells_is_not_made(self):
    family = families.Family(
        'Print the number of the line, @k@.', lambda rng: {'k': rng.random()},
        lambda rng, p: f'{rng.randint(1, 99)}\n', 'print(int(input()))', '',
        ('int(input())', 'int(input()) + 1'), ('', ''),
        # Of what is not negative the same.
        ('int(input())', 'abs(int(input()))'))
    with self.assertRaises(SystemExit):
      make_programs.make(family, 'program-0', make_programs.random.Random(1),
                         set())

  def test_a_run_that_fails_leaves_the_files_as_they_were(self):
    with tempfile.TemporaryDirectory(dir=os.environ.get('TEST_TMPDIR')) as to:
      paths = [os.path.join(to, name) for name in ('tasks', 'solutions')]
      made = subprocess.run([sys.executable, '-B', SCRIPT, *paths, '3'])
      self.assertEqual(made.returncode, 0)
      self.assertEqual(sorted(os.listdir(to)), ['solutions', 'tasks'])
      before = [text_of(path) for path in paths]
      self.assertEqual([len(text.splitlines()) for text in before], [200, 200])
      # Its last family has no task.
      breaks = ('import families, sys; sys.argv = sys.argv[1:]; '
                'families.FAMILIES[-1].fill = lambda rng: {"k": 1 // 0}; '
                'import make_programs; make_programs.main()')
      failed = subprocess.run(
          [sys.executable, '-B', '-c', breaks, SCRIPT, *paths, '4'],
          env={**os.environ, 'PYTHONPATH': FOLDER}, stderr=subprocess.DEVNULL)
      self.assertNotEqual(failed.returncode, 0)
      self.assertEqual(before, [text_of(path) for path in paths])
      self.assertEqual(sorted(os.listdir(to)), ['solutions', 'tasks'])


if __name__ == '__main__':
  unittest.main()
