#!/usr/bin/env python3
"""Makes questions on data and logic for the interpreter, fifty of each of ten
families.

    make_questions.py OUT_TASKS OUT_SOLUTIONS [SEED]

A question holds its data. Its answer comes of what the data was drawn as; a
second program, which shares nothing with that, reads the question alone and
prints the answer by another method. The test that runs all of them in the
environment's own tool holds the two to each other.

A solution row: {"id", "code"}; the code finds the question in `text`.
"""

import datetime
import itertools
import json
import random
import string
import sys

VARIANTS = 50
HELD_OUT = 10  # the last of each family
NAMES = ('Ana Bo Cem Dora Emil Fay Gus Hana Ivo Jun Kaya Leo Mia Nils Olga Pia '
         'Quin Rosa Sam Tea').split()
CITIES = 'Bergen Cork Gdansk Lyon Porto Riga Tartu Turku Vigo Zadar'.split()
GOODS = 'anvil brush candle drum easel flute globe hinge'.split()
WORDS = ('amber level basin civic delta ember noon fjord gravel radar harbor '
         'igloo kayak jungle lantern refer meadow orchid stats pebble quartz '
         'rotor sable tundra umber wow velvet willow yonder').split()


def csv(header, rows):
  return '\n'.join([header] + [','.join(map(str, row)) for row in rows])


class Family:
  """`draw(rng)` gives a question and its answer."""

  def __init__(self, name, draw, code):
    self.name, self.draw, self.code = name, draw, code


def conditional_sum(rng):
  rows = [(rng.choice(NAMES), rng.choice(CITIES), rng.randint(5, 400))
          for _ in range(rng.randint(12, 30))]
  city, least = rng.choice(rows)[1], rng.randint(20, 200)
  total = sum(amount for _, where, amount in rows
              if where == city and amount >= least)
  return (f'What do the amounts of at least {least} paid in {city} sum to?\n\n' +
          csv('name,city,amount', rows)), total


CONDITIONAL_SUM = r'''
import re
least, city = re.search(r'at least (\d+) paid in (\w+)', text).groups()
amounts = re.findall(r'^\w+,%s,(\d+)$' % city, text, re.M)
print(sum(int(a) for a in amounts if not int(a) < int(least)))
'''


def largest_group(rng):
  while True:
    rows = [(day, rng.choice(CITIES[:5]), rng.randint(1, 90))
            for day in range(1, rng.randint(15, 28))]
    totals = {}
    for _, city, visits in rows:
      totals[city] = totals.get(city, 0) + visits
    best = max(totals.values())
    if list(totals.values()).count(best) == 1:
      break
  return ('Which city had the most visits in all?\n\n' +
          csv('day,city,visits', rows)), max(totals, key=totals.get)


LARGEST_GROUP = r'''
import csv, io
rows = sorted((r['city'], int(r['visits']))
              for r in csv.DictReader(io.StringIO(text.split('\n\n')[1])))
best, at = (-1, ''), 0
while at < len(rows):
  end, total = at, 0
  while end < len(rows) and rows[end][0] == rows[at][0]:
    total += rows[end][1]
    end += 1
  best, at = max(best, (total, rows[at][0])), end
print(best[1])
'''


def two_tables(rng):
  goods = rng.sample(GOODS, 5)
  prices = {good: rng.randint(2, 60) for good in goods}
  orders = [(rng.choice(NAMES[:6]), rng.choice(goods), rng.randint(1, 9))
            for _ in range(rng.randint(8, 20))]
  name = rng.choice(orders)[0]
  total = sum(prices[good] * count for who, good, count in orders if who == name)
  return (f'How much does {name} owe?\n\n' + csv('good,price', prices.items()) +
          '\n\n' + csv('name,good,count', orders)), total


TWO_TABLES = r'''
import re, sqlite3
name = re.search(r'does (\w+) owe', text)[1]
base = sqlite3.connect(':memory:')
for number, table in enumerate(text.split('\n\n')[1:]):
  head, *rows = table.split('\n')
  base.execute('CREATE TABLE t%d (%s)' % (number, head))
  marks = ','.join('?' * (head.count(',') + 1))
  base.executemany('INSERT INTO t%d VALUES (%s)' % (number, marks),
                   [row.split(',') for row in rows])
print(base.execute('SELECT sum(price * count) FROM t0 JOIN t1 USING (good) '
                   'WHERE name = ?', [name]).fetchone()[0])
'''


def a_date(rng):
  return datetime.date(rng.randint(1990, 2030), 1, 1) + datetime.timedelta(
      rng.randrange(365))


def weekdays_between(rng):
  first = a_date(rng)
  last = first + datetime.timedelta(rng.randint(20, 400))
  day = rng.randrange(7)
  count = sum((first + datetime.timedelta(i)).weekday() == day
              for i in range((last - first).days + 1))
  return (f'How many {WEEKDAYS[day]}s are there from {first} to {last}, both '
          'days included?'), count


WEEKDAYS = 'Monday Tuesday Wednesday Thursday Friday Saturday Sunday'.split()
WEEKDAYS_BETWEEN = r'''
import re
names = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split()
day = names.index(re.search(r'many (\w+)s are', text)[1])
def number(date):  # of days since 1 March of the year 0, a Wednesday
  y, m, d = map(int, date.split('-'))
  y, m = (y, m - 3) if m > 2 else (y - 1, m + 9)
  return y * 365 + y // 4 - y // 100 + y // 400 + (m * 153 + 2) // 5 + d - 1
a, b = map(number, re.findall(r'\d+-\d+-\d+', text))
upto = lambda n: (n + 3 - day) // 7
print(upto(b) - upto(a - 1))
'''


def working_days(rng):
  day = a_date(rng)
  count = rng.randint(5, 60)
  text = (f'Work starts on the first day after {day} that is no Saturday or '
          f'Sunday, and takes {count} such days. On which date does it end? '
          'Answer as YYYY-MM-DD.')
  while count:
    day += datetime.timedelta(1)
    count -= day.weekday() < 5
  return text, day


WORKING_DAYS = r'''
import re, datetime
start, count = re.search(r'after (\S+) .* takes (\d+) such', text).groups()
start, count = datetime.date.fromisoformat(start), int(count)
before = start - datetime.timedelta(max(0, start.weekday() - 4))  # a weekday
weeks, left = divmod(count, 5)
end = before + datetime.timedelta(7 * weeks + left)
if before.weekday() + left > 4: end += datetime.timedelta(2)
print(end)
'''


def durations(rng):
  parts = [(rng.randint(0, 3), rng.randint(0, 59), rng.randint(0, 59))
           for _ in range(rng.randint(5, 14))]
  seconds = sum(h * 3600 + m * 60 + s for h, m, s in parts)
  text = ('How long do these last together? Answer as H:MM:SS.\n\n' +
          '\n'.join(f'{h}:{m:02}:{s:02}' for h, m, s in parts))
  return text, f'{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}'


DURATIONS = r'''
import datetime
total = datetime.timedelta()
for line in text.split('\n\n')[1].split('\n'):
  h, m, s = line.split(':')
  total += datetime.timedelta(hours=int(h), minutes=int(m), seconds=int(s))
print('%d:%s' % (total.days * 24 + total.seconds // 3600,
                 str(total).split(':', 1)[1]))
'''


def palindromes(rng):
  words = [rng.choice(WORDS) for _ in range(rng.randint(25, 60))]
  least = rng.randint(3, 5)
  count = sum(word == word[::-1] and len(word) >= least for word in words)
  return (f'How many of these words have at least {least} letters and read the '
          'same backwards? Count each as often as it stands there.\n\n' +
          ' '.join(words)), count


PALINDROMES = r'''
import re
least = int(re.search(r'least (\d)', text)[1])
def same(w): return len(w) < 2 or w[0] == w[-1] and same(w[1:-1])
found = [w for w in re.findall(r'[a-z]+', text.split('\n\n')[1]) if same(w)]
print(len([w for w in found if w[least - 1:]]))
'''


def run_lengths(rng):
  runs = [(rng.choice(string.ascii_lowercase), rng.randint(1, 9))
          for _ in range(rng.randint(6, 16))]
  plain = ''.join(letter * count for letter, count in runs)
  place = rng.randint(1, len(plain) - 5)
  return ('In this text a number says how often the letter before it stands '
          f'there. Which five letters are at places {place} to {place + 4}, '
          'counted from 1?\n\n' + ''.join(f'{letter}{count}'
                                          for letter, count in runs)), (
                                              plain[place - 1:place + 4])


RUN_LENGTHS = r'''
import re
first = int(re.search(r'places (\d+) to', text)[1])
pairs = re.findall(r'([a-z])(\d)', text.split('\n\n')[1])
out = ''
for place in range(first, first + 5):
  left = place
  for letter, count in pairs:
    left -= int(count)
    if left <= 0:
      out += letter
      break
print(out)
'''


def counted_numbers(rng):
  a, b, c = rng.sample(range(2, 16), 3)
  low = rng.randint(1, 5000)
  high = low + rng.randint(500, 90000)
  count = sum((n % a == 0 or n % b == 0) and n % c != 0
              for n in range(low, high + 1))
  return (f'How many whole numbers from {low} to {high} are divisible by {a} or '
          f'by {b}, and not by {c}?'), count


COUNTED_NUMBERS = r'''
import math, re
low, high, a, b, c = map(int, re.findall(r'\d+', text))
upto = lambda n, d: n // d
def holding(d): return upto(high, d) - upto(low - 1, d)
def without(d): return holding(d) - holding(math.lcm(d, c))
print(without(a) + without(b) - without(math.lcm(a, b)))
'''


def liars(rng):
  while True:
    names = rng.sample(NAMES, rng.randint(4, 6))
    truth = {name: rng.random() < 0.5 for name in names}
    claims = []
    for name in names:
      about, same = rng.choice([n for n in names if n != name]), rng.random() < 0.3
      if same:
        other = rng.choice([n for n in names if n not in (name, about)])
        fact = truth[about] == truth[other]
        claims.append((name, about, other, fact == truth[name]))
      else:
        claims.append((name, about, None, truth[about] == truth[name]))
    if worlds(names, claims) == 1 and any(truth.values()):
      break
  text = ('Each of these people always tells the truth or always lies. Who tells '
          'the truth? Answer with their names in alphabetical order, separated by '
          'commas.\n\n')
  for name, about, other, says in claims:
    if other:
      text += f'{name}: {about} and {other} are of {"the same" if says else "unlike"} kind.\n'
    else:
      text += f'{name}: {about} {"tells the truth" if says else "lies"}.\n'
  return text.rstrip(), ', '.join(sorted(n for n in names if truth[n]))


def worlds(names, claims):
  count = 0
  for values in itertools.product([False, True], repeat=len(names)):
    truth = dict(zip(names, values))
    count += all(
        truth[name] == ((truth[about] == truth[other] if other else truth[about])
                        == says) for name, about, other, says in claims)
  return count


LIARS = r'''
import re
# Over the field of two elements: x_name + x_about (+ x_other) = constant.
rows, names = [], []
for line in text.split('\n\n')[1].split('\n'):
  who = re.findall(r'[A-Z]\w+', line)
  names.append(who[0])
  positive = 'tells' in line or 'the same' in line
  # A claim "about tells the truth": name == about. "The same kind": name tells
  # the truth as often as about + other is even.
  rows.append((who, (0 if positive else 1) ^ (len(who) == 3)))
system = []
for who, constant in rows:
  bits = 0
  for w in who: bits ^= 1 << names.index(w)
  system.append([bits, constant])
solution = {}
for column in range(len(names)):
  pivot = next((r for r in system if r[0] >> column & 1 and r not in solution.values()), None)
  if pivot is None: continue
  for r in system:
    if r is not pivot and r[0] >> column & 1:
      r[0] ^= pivot[0]
      r[1] ^= pivot[1]
  solution[column] = pivot
print(', '.join(sorted(names[c] for c, r in solution.items() if r[1])))
'''

FAMILIES = [
    Family('conditional-sum', conditional_sum, CONDITIONAL_SUM),
    Family('largest-group', largest_group, LARGEST_GROUP),
    Family('two-tables', two_tables, TWO_TABLES),
    Family('weekdays', weekdays_between, WEEKDAYS_BETWEEN),
    Family('working-days', working_days, WORKING_DAYS),
    Family('durations', durations, DURATIONS),
    Family('palindromes', palindromes, PALINDROMES),
    Family('run-lengths', run_lengths, RUN_LENGTHS),
    Family('counted-numbers', counted_numbers, COUNTED_NUMBERS),
    Family('liars', liars, LIARS),
]


def main(tasks_path, solutions_path, seed='1'):
  with open(tasks_path, 'w') as tasks, open(solutions_path, 'w') as solutions:
    for family in FAMILIES:
      rng = random.Random(f'{seed} {family.name}')
      for i in range(VARIANTS):
        text, answer = family.draw(rng)
        name = f'{family.name}/{i}'
        row = {
            'id': name,
            'environment': 'interpreter',
            'split': 'heldout' if i >= VARIANTS - HELD_OUT else 'train',
            'messages': [{'role': 'user', 'content': text}],
            'payload_json': json.dumps({'answer': str(answer)}),
        }
        tasks.write(json.dumps(row) + '\n')
        solutions.write(json.dumps({'id': name, 'code': family.code}) + '\n')


if __name__ == '__main__':
  if len(sys.argv) not in (3, 4):
    sys.exit(__doc__)
  main(*sys.argv[1:])
