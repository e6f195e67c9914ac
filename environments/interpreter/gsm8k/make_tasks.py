#!/usr/bin/env python3
"""Makes tasks of the interpreter environment out of GSM8K.

    make_tasks.py TRAIN_GZ TEST_GZ OUT_TASKS

The inputs are the data set as OpenAI published it (MIT license,
github.com/openai/grade-school-math). A task's answer is what follows "####" in
the published solution, without the commas that group thousands. The test set is
held out.
"""

import gzip
import json
import re
import sys


def rows(path, split):
  with gzip.open(path, 'rt') as file:
    for number, line in enumerate(file):
      row = json.loads(line)
      answer = row['answer'].rpartition('####')[2].strip().replace(',', '')
      if not re.fullmatch(r'-?\d+(\.\d+)?', answer):
        sys.exit(f'{path}:{number + 1}: "{answer}" is no number')
      yield {
          'id': f'gsm8k-{split}/{number}',
          'environment': 'interpreter',
          'split': split,
          'messages': [{'role': 'user', 'content': row['question']}],
          'payload_json': json.dumps({'answer': answer}),
      }


def main(train_path, test_path, out_path):
  with open(out_path, 'w') as out:
    for row in (*rows(train_path, 'train'), *rows(test_path, 'heldout')):
      out.write(json.dumps(row) + '\n')


if __name__ == '__main__':
  if len(sys.argv) != 4:
    sys.exit(__doc__)
  main(*sys.argv[1:])
