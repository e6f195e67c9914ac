#!/usr/bin/env python3
"""Makes tasks of the code environment out of HumanEval, and checks each.

    tools/peers/humaneval.py [FOLDER]

FOLDER (environments/code/humaneval) holds human_eval.jsonl.gz, the data set as
OpenAI published it (MIT license, github.com/openai/human-eval). Out of it come

    tasks.jsonl      a task for each of the 164 problems: the arguments of each
                     call that the original test makes, and what it asks of the
                     result, as a value or a predicate of value_check.h
    solutions.jsonl  the canonical solution of each, and five mutants of it:
                     [first byte, last byte + 1, what stands there instead]

An original test is Python that holds the answers, and here no answer may enter
a sandbox. `assert candidate(literals) == literal` is taken apart by rule, as
are its few other plain forms; what draws its inputs in a loop is written out in
BY_HAND below, and FURTHER draws tests where the prompt's examples and one value
beside them would pass. Then the canonical solution and up to TRIED_MAX mutants of it are
run under the original test and under the translated one: both must say the same
of each, or the script fails. It takes some minutes.
"""

import ast
import copy
import gzip
import io
import json
import math
import os
import random
import resource
import signal
import sys
import tokenize
import warnings

MUTANTS = 5
TRIED_MAX = 40  # mutants of a problem that both tests are asked of
TESTS_MAX = 48
EXAMPLES_MAX = 8
SECONDS_MAX = 2  # of a mutant, which may never end
RELATIVE_TOLERANCE = 1e-9  # value_check.cc


# --- What a test asks ---------------------------------------------------------

class Test:
  """One call, and what is asked of its result."""

  def __init__(self, args, value=None, check='equal', tolerance=0):
    self.args, self.value = args, value
    self.check, self.tolerance = check, tolerance

  def passes(self, got):
    """As value_check.cc has it."""
    if self.check == 'truth':
      return bool(got) == self.value
    if self.check == 'sequence':
      return type(got) in (list, tuple) and equal(list(self.value), list(got),
                                                  self.tolerance)
    if self.check == 'root':
      return (type(got) in (int, float) and
              abs(sum(c * float(got)**i for i, c in enumerate(self.args[0]))) <
              self.tolerance)
    return equal(self.value, got, self.tolerance)

  def payload(self):
    out = {'args': ', '.join(map(repr, self.args))}
    if self.check != 'root':
      out['value'] = repr(self.value)
    if self.check != 'equal':
      out['check'] = self.check
    if self.tolerance:
      out['tolerance'] = self.tolerance
    return out


def equal(expected, got, tolerance):
  if type(expected) is float:
    if type(got) not in (int, float):
      return False
    if math.isnan(expected) or math.isnan(got):
      return math.isnan(expected) and math.isnan(got)
    if math.isinf(expected) or math.isinf(got):
      return expected == got
    return abs(expected - got) <= max(tolerance,
                                      RELATIVE_TOLERANCE * abs(expected))
  if type(expected) is not type(got):
    return False
  if type(expected) in (list, tuple):
    return len(expected) == len(got) and all(
        equal(e, g, tolerance) for e, g in zip(expected, got))
  if type(expected) is dict:
    return exact(expected) == exact(got) and all(
        equal(v, got[k], tolerance) for k, v in expected.items())
  if type(expected) is set:
    return exact(expected) == exact(got)
  return expected == got


def exact(keys):
  """Keys and elements with their types: 1, 1.0 and True are three."""
  return set(map(typed, keys))


def typed(key):
  return type(key), tuple(map(typed, key)) if type(key) is tuple else key


def typed_as(value, canonical):
  """The literal of a test in the types of what the canonical solution returns,
  where == takes one for the other."""
  if type(value) in (int, float) and type(canonical) in (int, float):
    return float(value) if float in (type(value), type(canonical)) else value
  if type(value) is type(canonical):
    if type(value) in (list, tuple) and len(value) == len(canonical):
      return type(value)(map(typed_as, value, canonical))
    if type(value) is dict and value.keys() == canonical.keys():
      return {k: typed_as(v, canonical[k]) for k, v in value.items()}
    return value
  # True for 1: as the solution, for its prompt asks for that.
  return canonical if value == canonical else value


# --- The tests that are loops ---------------------------------------------------

def find_zero(space):
  rng = random.Random(42)
  for _ in range(24):  # as the original draws them
    coefficients = []
    for _ in range(2 * rng.randint(1, 4)):
      coefficients.append(rng.randint(-10, 10) or 1)
    yield Test([coefficients], check='root', tolerance=1e-4)


def drawn_word(rng):
  letters = 'abcdefghijklmnopqrstuvwxyz'
  return ''.join(rng.choice(letters) for _ in range(rng.randint(10, 20)))


def decode_cyclic(space):
  rng = random.Random(38)
  for _ in range(24):
    word = drawn_word(rng)
    yield Test([space['encode_cyclic'](word)], word)


def decode_shift(space):
  rng = random.Random(50)
  for _ in range(24):
    word = drawn_word(rng)
    yield Test([space['encode_shift'](word)], word)


def change_base(space):
  for x in range(2, 8):
    yield Test([x, x + 1], str(x))


def add(space):
  rng = random.Random(53)
  for _ in range(24):
    x, y = rng.randint(0, 1000), rng.randint(0, 1000)
    yield Test([x, y], x + y)


# By problem: what its loop becomes, beside what is taken apart by rule.
BY_HAND = {32: find_zero, 38: decode_cyclic, 44: change_base,
           50: decode_shift, 53: add}


# --- Tests beside the original's -------------------------------------------------

def drawn_list(rng, low, high, longest):
  return [rng.randint(low, high) for _ in range(rng.randint(1, longest))]


def triple(rng):
  numbers = drawn_list(rng, -9, 9, 6)
  if len(numbers) >= 3 and rng.random() < 0.5:
    numbers[-1] = -numbers[0] - numbers[1]
  return [rng.sample(numbers, len(numbers))]


def two_words(rng):
  word = drawn_word(rng)[:6]
  other = [rng.choice(word) for _ in range(8)]
  return [word, ''.join(rng.sample(other + list(word) * rng.randint(0, 1),
                                   len(other)))]


# By problem, what draws arguments of further tests, whose values are the
# canonical solution's: here who gives what the prompt's examples show, and one
# value for all else, would pass all of the original.
FURTHER = {
    34: lambda rng: [drawn_list(rng, -5, 9, 12)],
    35: lambda rng: [drawn_list(rng, -99, 99, 12)],
    40: triple,
    54: two_words,
}


def further_tests(number, solve):
  if number not in FURTHER:
    return []
  rng, tests = random.Random(number), {}
  while len(tests) < 12:
    args = FURTHER[number](rng)
    tests[repr(args)] = Test(args, solve(copy.deepcopy(args)))
  return list(tests.values())


# --- Taking tests apart ---------------------------------------------------------

def is_call(node):
  return (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and
          node.func.id == 'candidate' and not node.keywords)


def value_of(node, space):
  return eval(compile(ast.Expression(node), '<test>', 'eval'), space)


def test_of(asked, space):
  """What one assert asks; None if it is of no form known here."""
  args = lambda call: [value_of(a, space) for a in call.args]
  if is_call(asked):
    return Test(args(asked), True, 'truth')
  if isinstance(asked, ast.UnaryOp) and isinstance(asked.op, ast.Not):
    return Test(args(asked.operand), False, 'truth')
  if not isinstance(asked, ast.Compare) or len(asked.ops) != 1:
    return None
  left, op, right = asked.left, asked.ops[0], asked.comparators[0]
  if is_call(left) and isinstance(op, (ast.Eq, ast.Is)):
    return Test(args(left), value_of(right, space))
  # tuple(candidate(..)) == tuple(..)
  if (isinstance(left, ast.Call) and getattr(left.func, 'id', '') == 'tuple' and
      isinstance(op, ast.Eq) and is_call(left.args[0])):
    return Test(args(left.args[0]), list(value_of(right, space)), 'sequence')
  # abs(candidate(..) - value) < tolerance
  if (isinstance(left, ast.Call) and getattr(left.func, 'id', '') == 'abs' and
      isinstance(op, ast.Lt) and isinstance(left.args[0], ast.BinOp) and
      isinstance(left.args[0].op, ast.Sub) and is_call(left.args[0].left)):
    return Test(args(left.args[0].left),
                float(value_of(left.args[0].right, space)),
                tolerance=value_of(right, space))
  return None


def tests_of(number, problem, space):
  check = [f for f in ast.parse(problem['test']).body
           if isinstance(f, ast.FunctionDef) and f.name == 'check'][0]
  tests, by_hand = [], number in BY_HAND
  for statement in check.body:
    if isinstance(statement, ast.Assert):
      if isinstance(statement.test, ast.Constant):
        continue
      test = test_of(statement.test, space)
      assert test is not None, ast.unparse(statement)
      tests.append(test)
    elif isinstance(statement, ast.Assign) and not by_hand:
      exec(compile(ast.Module([statement], []), '<test>', 'exec'), space)
    elif isinstance(statement, ast.For) and by_hand:
      tests.extend(BY_HAND[number](space))
    else:  # for the loop; or a print
      assert isinstance(statement, (ast.Import, ast.ImportFrom, ast.Expr,
                                    ast.Assign)), ast.unparse(statement)
  unique = {}
  for test in tests:
    unique.setdefault(repr(test.payload()), test)
  return list(unique.values())[:TESTS_MAX]


def examples_of(problem, solve):
  """Calls that the prompt shows with their values, as far as they are literals
  and true."""
  lines = problem['prompt'].split('\n')
  examples = []
  for i, line in enumerate(lines):
    text = line.strip().removeprefix('>>>').strip()
    if not text.startswith(problem['entry_point'] + '('):
      continue
    for end in (k + 1 for k, c in enumerate(text) if c == ')'):
      try:
        call = ast.parse(text[:end], mode='eval').body
      except SyntaxError:
        continue
      rest = text[end:].strip().lstrip('=-># \u279e\u2192').removeprefix(
          'returns').strip()
      if not rest and i + 1 < len(lines):
        rest = lines[i + 1].strip()
      try:
        args = [ast.literal_eval(a) for a in call.args]
        value = ast.literal_eval(rest)
        got = solve(copy.deepcopy(args))
        if got == value and not call.keywords:
          examples.append(Test(args, typed_as(value, got)))
      except Exception:
        pass
      break
  return examples[:EXAMPLES_MAX]


# --- Mutants -----------------------------------------------------------------

# Taken where there is no other: whatever is returned, it is something else.
BLUNT = ('return not', 'return None and', 'return 7 or', 'return () and',
         'return [], ')

OTHER = {
    '+': ['-'], '-': ['+'], '*': ['+', '//'], '/': ['*'], '//': ['*'],
    '%': ['//'], '**': ['*'], '<': ['<=', '>'], '<=': ['<'], '>': ['>=', '<'],
    '>=': ['>'], '==': ['!='], '!=': ['=='], '+=': ['-=', '='], '-=': ['+='],
    '*=': ['+='], 'and': ['or'], 'or': ['and'], 'not': ['not not'],
    'True': ['False'], 'False': ['True'], 'min': ['max'], 'max': ['min'],
    'sum': ['len'], 'len': ['2 * len'], 'any': ['all'], 'all': ['any'],
    'sorted': ['list'], 'range': ['list'], 'if': ['if not'],
    'in': ['not in'], 'for': ['for _ in [0, 0] for'],
    'return': list(BLUNT),
    'upper': ['lower'], 'lower': ['upper'], 'continue': ['break'],
    'break': ['continue'], 'append': ['count'], 'None': ['0'],
}


def edits_of(answer, begin):
  """(first byte, last byte + 1, text) of changes to the code from `begin` on."""
  data = answer.encode()
  starts = [0]
  for line in data.split(b'\n'):
    starts.append(starts[-1] + len(line) + 1)
  for token in tokenize.generate_tokens(io.StringIO(answer).readline):
    line = answer.split('\n')[token.start[0] - 1] if token.string else ''
    first = starts[token.start[0] - 1] + len(line[:token.start[1]].encode())
    last = first + len(token.string.encode())
    if first < begin or data[first:last] != token.string.encode():
      continue
    texts = OTHER.get(token.string, [])
    if token.type == tokenize.NUMBER and token.string.isdigit():
      texts = [str(int(token.string) + 1), str(max(int(token.string) - 1, 0))]
    elif token.type == tokenize.NUMBER:
      texts = [token.string + ' + 1']
    elif token.type == tokenize.STRING and token.string[0] in '\'"':
      texts = ["'x'"] if token.string in ("''", '""') else ["''"]
    for text in texts:
      if text != token.string:
        yield first, last, text


def mutated(answer, edit):
  data = answer.encode()
  return (data[:edit[0]] + edit[2].encode() + data[edit[1]:]).decode()


# --- Running -----------------------------------------------------------------

def verdicts(problem, tests, code):
  """Whether `code` passes the original test and the translated one; None for one
  that took too long. In a process of its own."""
  r, w = os.pipe()
  child = os.fork()
  if child:
    os.close(w)
    with os.fdopen(r) as file:
      said = file.read()
    os.waitpid(child, 0)
    if len(said) < 2:
      return None, None
    return said[0] == 'y', said[1] == 'y'
  os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  os.dup2(1, 2)
  resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
  signal.alarm(SECONDS_MAX)
  random.seed(1)

  def original():
    space = {'__name__': 'test'}
    exec(code + '\n' + problem['test'], space)
    space['check'](space[problem['entry_point']])
    return True

  def translated():
    for test in tests:
      space = {'__name__': 'solution'}
      exec(code, space)
      got = space[problem['entry_point']](*copy.deepcopy(test.args))
      if not test.passes(got):
        return False
    return True

  for run in (original, translated):
    try:
      passed = run()
    except BaseException:
      passed = False
    os.write(w, b'y' if passed else b'n')
  os._exit(0)


def choose_mutants(number, problem, tests, answer):
  edits = list(edits_of(answer, len(problem['prompt'].encode())))
  random.Random(number).shuffle(edits)
  edits.sort(key=lambda edit: edit[2] in BLUNT)
  chosen, tried = [], 0
  for edit in edits:
    if tried >= TRIED_MAX and len(chosen) == MUTANTS:
      break
    code = mutated(answer, edit)
    try:
      compile(code, '<mutant>', 'exec')
    except (SyntaxError, ValueError):
      continue
    tried += 1
    original, translated = verdicts(problem, tests, code)
    if original is None:  # it may not end
      continue
    if original != translated:
      raise SystemExit(f'{problem["task_id"]}: the original test says '
                       f'{original}, the translated one {translated}, of\n'
                       f'{code[len(problem["prompt"]):]}')
    if not original and len(chosen) < MUTANTS:
      chosen.append(edit)
  if len(chosen) < MUTANTS:
    raise SystemExit(f'{problem["task_id"]}: {len(chosen)} mutants only')
  return sorted(chosen)


def translate(number, problem):
  answer = problem['prompt'] + problem['canonical_solution']
  space = {'__name__': 'solution'}
  exec(answer, space)
  name = problem['entry_point']
  solve = lambda args: space[name](*args)
  tests = tests_of(number, problem, dict(space))
  for test in tests:
    if test.check == 'equal':
      test.value = typed_as(test.value, solve(copy.deepcopy(test.args)))
    assert len(repr(test.payload())) < 100000
  if verdicts(problem, tests, answer) != (True, True):
    raise SystemExit(f'{problem["task_id"]}: the canonical solution fails')
  prompt = problem['prompt']
  prelude = prompt[:prompt.rindex(f'def {name}(')]
  payload = {'entry_point': name}
  if prelude.strip():
    payload['prelude'] = prelude.strip() + '\n'
  examples = examples_of(problem, solve)
  if examples:
    payload['examples'] = [e.payload() for e in examples]
  payload['tests'] = [t.payload()
                      for t in tests + further_tests(number, solve)]
  task = {
      'id': problem['task_id'],
      'environment': 'code',
      'split': 'heldout',
      'messages': [{
          'role': 'user',
          'content': 'Write the Python function that this code begins. Answer '
                     'with the whole of it in a code block.\n\n```python\n' +
                     prompt.strip('\n') + '\n```',
      }],
      'payload_json': json.dumps(payload, ensure_ascii=False),
  }
  solution = {
      'id': problem['task_id'],
      'answer': answer,
      'mutants': choose_mutants(number, problem, tests, answer),
  }
  return task, solution


def main():
  folder = sys.argv[1] if len(sys.argv) > 1 else 'environments/code/humaneval'
  warnings.simplefilter('ignore')  # of what mutants are
  with gzip.open(os.path.join(folder, 'human_eval.jsonl.gz'), 'rt') as file:
    problems = [json.loads(line) for line in file]
  files = {'tasks.jsonl': '', 'solutions.jsonl': ''}
  for number, problem in enumerate(problems):
    for name, row in zip(files, translate(number, problem)):
      files[name] += json.dumps(row, ensure_ascii=False) + '\n'
  for name, text in files.items():
    with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
      file.write(text)


if __name__ == '__main__':
  main()
