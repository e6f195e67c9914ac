#!/usr/bin/env python3
"""Makes programming tasks from stdin to stdout, ten of each of twenty families.

    make_programs.py OUT_TASKS OUT_SOLUTIONS [SEED]

A task is its family's (families.py) with other numbers in the statement, and its
inputs are drawn anew. Each has two solutions that share nothing but the
statement, one in Python, by which the outputs are made, and one in C++ by
another method, and a wrong one in each language: the right one with one place
changed. The test that grades all of them holds the two to each other.

No two statements are the same. The inputs of a task are distinct, the hidden
ones from the examples too, and no output is that of more than SAME_MAX hidden
ones, so that one which is printed whatever comes in is not paid.

The files are there, whole, if the exit status is 0, and otherwise as they were.
A solution row: {"id", "python", "cpp", "wrong_python", "wrong_cpp"}.
"""

import io
import json
import os
import random
import sys

import families

VARIANTS = 10
EXAMPLES, TESTS = 2, 6
SAME_MAX = 2
# Draws before other numbers are tried, and of those before it is given up: a
# family that needs so many has to be mended.
INPUTS_MAX, SETS_MAX, FILLS_MAX = 400, 20, 200


def filled(text, parameters):
  for name, value in parameters.items():
    text = text.replace(f'@{name}@', str(value))
  return text


def changed(text, place, parameters):
  old, new = (filled(part, parameters) for part in place)
  assert old in text, (old, text)
  return text.replace(old, new, 1)


def output_of(code, stdin):
  """What a program of ours prints; None if it fails."""
  kept = sys.stdin, sys.stdout
  sys.stdin, sys.stdout = io.StringIO(stdin), io.StringIO()
  try:
    exec(code, {'__name__': '__main__'})
    return sys.stdout.getvalue()
  except Exception:
    return None
  finally:
    sys.stdin, sys.stdout = kept


def draw_cases(draw, right, wrong):
  """Examples and tests as (stdin, stdout), of inputs that `draw` gives, such that
  each program of `wrong` fails a test; None if that did not come about."""
  cases, seen = [], set()
  for _ in range(INPUTS_MAX):
    stdin = draw()
    if stdin in seen:
      continue
    seen.add(stdin)
    stdout = output_of(right, stdin)
    assert stdout is not None, stdin
    hidden = [o.split() for _, o in cases[EXAMPLES:]]
    if hidden.count(stdout.split()) >= SAME_MAX:
      continue
    cases.append((stdin, stdout))
    if len(cases) == EXAMPLES + TESTS:
      break
  else:
    return None
  for program in wrong:
    if not any((output_of(program, i) or '').split() != o.split()
               for i, o in cases[EXAMPLES:]):
      return None
  return cases


def make(family, number, rng, statements):
  """A task and its solutions, whose statement is none of `statements` and is
  added to them."""
  for _ in range(FILLS_MAX):
    parameters = family.fill(rng)
    statement = filled(family.statement, parameters)
    if statement in statements:
      continue
    python = filled(family.python, parameters)
    wrong = [changed(python, place, parameters)
             for place in (family.wrong_python, family.like_cpp)]
    compiled = [compile(code, '<solution>', 'exec')
                for code in (python, *wrong)]
    for _ in range(SETS_MAX):
      drawn = draw_cases(lambda: family.make_input(rng, parameters),
                         compiled[0], compiled[1:])
      if drawn is not None:
        break
    else:
      continue
    statements.add(statement)
    cases = [{'stdin': i, 'stdout': o} for i, o in drawn]
    cpp = filled(family.cpp, parameters)
    return {
        'id': number,
        'environment': 'code',
        'split': 'train',
        'messages': [{
            'role': 'user',
            'content': 'Write a program in LANGUAGE that reads stdin and writes '
                       f'stdout. {statement} Answer with the whole program in a '
                       'code block.',
        }],
        'payload': {'examples': cases[:EXAMPLES], 'tests': cases[EXAMPLES:]},
    }, {
        'id': number, 'python': python, 'cpp': cpp, 'wrong_python': wrong[0],
        'wrong_cpp': changed(cpp, family.wrong_cpp, parameters),
    }
  raise SystemExit('no task could be made of: ' + family.statement)


def make_all(seed):
  """The rows of both files."""
  rng = random.Random(seed)
  tasks, solutions, statements = [], [], set()
  count = len(families.FAMILIES)
  for i in range(VARIANTS * count):
    task, solution = make(families.FAMILIES[i % count], f'program-{i}', rng,
                          statements)
    # Every other one in C++; with an odd number of them to a round it would be
    # the same families, so rounds take turns too.
    language = ('python', 'cpp')[(i + i // count) % 2]
    payload = task.pop('payload')
    task['payload_json'] = json.dumps({'language': language, **payload})
    task['messages'][0]['content'] = task['messages'][0]['content'].replace(
        'LANGUAGE', {'python': 'Python', 'cpp': 'C++'}[language])
    tasks.append(task)
    solutions.append(solution)
  return tasks, solutions


def main():
  rows = make_all(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
  paths = sys.argv[1:3]
  for path, part in zip(paths, rows):
    with open(path + '.part', 'w') as file:
      file.writelines(json.dumps(row) + '\n' for row in part)
  for path in paths:
    os.replace(path + '.part', path)


if __name__ == '__main__':
  main()
