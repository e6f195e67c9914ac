#!/usr/bin/env python3
"""The checkout is tidy, and each rule of tidy.py finds what it is there for.

Writes the test.xml that test.sh counts, so that a check which could not run is
named there as skipped.
"""

import os
import sys
import tempfile
import xml.etree.ElementTree as ET

# Bazel links to the sources: the links lead to the checkout itself.
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
import tidy  # noqa: E402

LONG_FUNCTION = 'int Long() {\n' + '  Work();\n' * tidy.FUNCTION_LINES_MAX + '}\n'
FIX = 'TO' + 'DO'

# Of each rule a file that breaks it, and what is to be said of it.
BREACHES = {
    'sizes': ('long.h', '// A header.\n' * (tidy.HEADER_LINES_MAX + 1),
              'at most'),
    'functions': ('long.cc', LONG_FUNCTION, 'a function of'),
    'openings': ('silent.h', '#ifndef SILENT_H_\n', 'does not open'),
    'includes': ('angled.cc', '#include <gtest/gtest.h>\n', 'quote it'),
    'citations': ('citing.cc', '// See never_written.h for why.\n',
                  'never_written.h'),
    'later': ('later.py', f'# {FIX}: the rest\n', 'marked for later'),
    'dead_symbols': ('dead.h', '// Nobody calls it.\nint NeverCalled();\n',
                     'NeverCalled'),
    'prose': ('wide.md', 'word ' * 40 + '\n', 'columns of prose'),
    'repeats': ('DESIGN.md', 'A sentence of ' + 'many words ' * 6 + 'here.\n'
                'Not it. A sentence of ' + 'many words ' * 6 + 'here.\n',
                'DESIGN.md:2: says again'),
    'comment_breach': ('mute.cc', 'int a;\n' * 40, 'say why'),
    'formatting': ('crooked.cc', 'int   a ;\n', 'clang-format'),
}


def of_rule(rule, root):
  return list(rule(tidy.Checkout(root)))


def finds_its_breach(rule):
  """Empty, or what is wrong with the rule."""
  name, text, said = BREACHES[rule.__name__]
  with tempfile.TemporaryDirectory() as root:
    with open(os.path.join(root, name), 'w', encoding='utf-8') as file:
      file.write(text)
    with open(os.path.join(HERE, '..', '.clang-format'),
              encoding='utf-8') as style:
      with open(os.path.join(root, '.clang-format'), 'w',
                encoding='utf-8') as copy:
        copy.write(style.read())
    found = of_rule(rule, root)
    if len(found) != 1 or said not in found[0]:
      return f'{rule.__name__} says {found} of {name}, not "{said}"'
  return ''


def main():
  _, why_unformatted = tidy.formatter()
  suite = ET.Element('testsuite', name='tidy')
  failed = False
  for rule in tidy.CHECKS:
    case = ET.SubElement(suite, 'testcase', classname='tidy',
                         name=rule.__name__, status='run')
    if rule is tidy.formatting and why_unformatted:
      ET.SubElement(case, 'skipped', message=why_unformatted)
      continue
    wrong = [text for text in [finds_its_breach(rule)] if text]
    wrong += of_rule(rule, os.path.dirname(HERE))
    if wrong:
      failed = True
      ET.SubElement(case, 'failure', message=wrong[0])
      print('\n'.join(wrong))
  print(f'{100 * tidy.comment_share(tidy.Checkout(os.path.dirname(HERE))):.1f}'
        ' % of the sources\' lines say why')
  if 'XML_OUTPUT_FILE' in os.environ:
    suites = ET.Element('testsuites')
    suites.append(suite)
    ET.ElementTree(suites).write(os.environ['XML_OUTPUT_FILE'])
  return failed


if __name__ == '__main__':
  sys.exit(main())
