"""The twenty families of programming tasks that make_programs.py draws from."""


def numbers(rng, count, low, high):
  return ' '.join(str(rng.randint(low, high)) for _ in range(count))


def listed(rng, low, high, longest=20, shortest=1):
  n = rng.randint(shortest, longest)
  return f'{n}\n{numbers(rng, n, low, high)}\n'


LISTED = 'The first line has n, the second n integers. '


class Family:
  """`fill` draws what stands for the @names@ in all texts, `make_input` an input.
  `wrong_python` and `wrong_cpp` are a place of each solution and what stands
  there in the wrong one. `like_cpp` is the place of the Python solution by which
  it prints what the wrong C++ one does: inputs must tell that from the right
  one too, and no compiler is here to ask."""

  def __init__(self, statement, fill, make_input, python, cpp, wrong_python,
               wrong_cpp, like_cpp):
    self.statement, self.fill, self.make_input = statement, fill, make_input
    self.python, self.cpp = python, cpp
    self.wrong_python, self.wrong_cpp = wrong_python, wrong_cpp
    self.like_cpp = like_cpp


HEAD = '#include <bits/stdc++.h>\nusing namespace std;\nint main() {\n'
READ = '  int n; cin >> n; vector<long long> a(n); for (auto& x : a) cin >> x;\n'

FAMILIES = [
    Family(
        LISTED + 'Print the sum of those that leave @r@ when divided by @m@.',
        lambda rng: {'m': (m := rng.randint(3, 12)), 'r': rng.randrange(m)},
        lambda rng, p: listed(rng, 0, 60, 30, 12),
        'input()\nprint(sum(x for x in map(int, input().split()) '
        'if x % @m@ == @r@))',
        HEAD + READ + '  long long sum = 0;\n  for (auto x : a) if ((x + @m@ - '
        '@r@) / @m@ * @m@ == x + @m@ - @r@) sum += x;\n  cout << sum;\n}',
        ('== @r@', '!= @r@'), ('sum += x', 'sum += 1'), ('sum(x', 'sum(1')),
    Family(
        LISTED + 'Print the one at place @k@ of the distinct values, the largest '
        'being at place 1, or "none".',
        lambda rng: {'k': rng.randint(2, 13)},
        lambda rng, p: listed(rng, -9, 9, 25, p['k']),
        'input()\na = sorted(set(map(int, input().split())), reverse=True)\n'
        'print(a[@k@ - 1] if len(a) >= @k@ else "none")',
        HEAD + READ + '  set<long long> s(a.begin(), a.end());\n  int place = 0;'
        '\n  for (auto it = s.rbegin(); it != s.rend(); ++it)\n    if (++place =='
        ' @k@) { cout << *it; return 0; }\n  cout << "none";\n}',
        ('reverse=True', 'reverse=False'), ('++place', 'place++'),
        ('a[@k@ - 1] if len(a) >=', 'a[@k@] if len(a) >')),
    Family(
        'The line is a word. Print the letter of its longest run of equal letters '
        'and the length of the run, times @t@; of several such runs the first.',
        lambda rng: {'t': rng.randint(2, 15)},
        lambda rng, p: ''.join(rng.choice('abc') * rng.randint(1, 3)
                               for _ in range(rng.randint(2, 9))) + '\n',
        's = input()\nbest = 0\nlast, run = "", 0\nfor c in s:\n'
        '    run = run + 1 if c == last else 1\n    last = c\n'
        '    if run > best:\n        best, letter = run, c\n'
        'print(letter, best * @t@)',
        HEAD + '  string s; cin >> s; size_t best = 0; char letter = 0;\n'
        '  for (size_t i = 0; i < s.size(); ++i) {\n    size_t j = i;\n'
        '    while (j < s.size() && s[j] == s[i]) ++j;\n'
        '    if (j - i > best) { best = j - i; letter = s[i]; }\n  }\n'
        '  cout << letter << " " << best * @t@;\n}',
        ('else 1', 'else 0'), ('best * @t@', 'best + @t@'),
        ('best * @t@', 'best + @t@')),
    Family(
        'Print the line with each lower-case letter moved @k@ places on in the '
        'alphabet, after z going on at a. All else stays.',
        # Not 13: as far on as back, which the wrong one goes.
        lambda rng: {'k': rng.choice([k for k in range(1, 26) if k != 13])},
        lambda rng, p: ''.join(rng.choice('abcxyzABC ,7')
                               for _ in range(rng.randint(5, 25))) + '.\n',
        'print("".join(chr((ord(c) - 97 + @k@) % 26 + 97) if "a" <= c <= "z" '
        'else c for c in input()))',
        HEAD + '  string s; getline(cin, s);\n'
        '  const string abc = "abcdefghijklmnopqrstuvwxyz";\n'
        '  for (char& c : s) {\n    size_t at = abc.find(c);\n'
        '    if (at == string::npos) continue;\n'
        '    at += @k@;\n    while (at >= 26) at -= 26;\n    c = abc[at];\n  }\n'
        '  cout << s;\n}',
        ('+ @k@', '- @k@'), ('at += @k@', 'at += @k@ - 1'), ('+ @k@', '+ @k@ - 1')),
    Family(
        LISTED + 'Print how many pairs of places i < j there are whose values '
        'differ by @d@.',
        lambda rng: {'d': rng.randint(1, 12)},
        lambda rng, p: listed(rng, 0, 15, 25, 10),
        'from collections import Counter\ninput()\n'
        'c = Counter(map(int, input().split()))\n'
        'print(sum(c[x] * c[x + @d@] for x in list(c)))',
        HEAD + READ + '  int pairs = 0;\n  for (int i = 0; i < n; ++i)\n'
        '    for (int j = i + 1; j < n; ++j) pairs += llabs(a[i] - a[j]) == @d@;'
        '\n  cout << pairs;\n}',
        ('c[x] * c', 'min(c[x], 1) * c'), ('== @d@', '== @d@ + 1'),
        ('x + @d@]', 'x + @d@ + 1]')),
    Family(
        LISTED + 'All are positive. Print their greatest common divisor and their '
        'least common multiple modulo @p@.',
        lambda rng: {'p': rng.choice([97, 101, 1009, 7919, 8191, 10007, 32749,
                                      65537, 999983, 104729, 131071, 1299709,
                                      15485863])},
        lambda rng, p: (lambda g: '4\n' + ' '.join(
            str(g * rng.randint(20, 60)) for _ in range(4)) + '\n')(
                rng.randint(2, 9)),
        'import math\ninput()\na = list(map(int, input().split()))\n'
        'print(math.gcd(*a), math.lcm(*a) % @p@)',
        HEAD + READ + '  long long g = a[0];\n  for (;; --g) { bool all = true; for (auto x : a) all &= x % g == 0; '
        'if (all) break; }\n  map<long long, int> most;\n'
        '  for (auto x : a) {\n    map<long long, int> f;\n'
        '    for (long long q = 2; q <= x; ++q) while (x % q == 0) { ++f[q]; x /='
        ' q; }\n    for (auto [q, e] : f) most[q] = max(most[q], e);\n  }\n'
        '  long long l = 1;\n  for (auto [q, e] : most) while (e--) l = l * q % '
        '@p@;\n  cout << g << " " << l;\n}',
        ('math.lcm(*a) %', 'a[0] * a[1] %'), ('max(most[q], e)', 'most[q] + e'),
        ('math.lcm(*a) %', 'math.prod(a) %')),
    Family(
        'The first line has the rows and columns of a maze, whose lines follow. '
        'A "@w@" is a wall, a "." is free. Print the fewest steps from the upper '
        'left to the lower right place, which are free, a step going to one of '
        'the @d@ neighbours, or @no@ if there is no way.',
        lambda rng: {'w': rng.choice('#XO%'), 'd': rng.choice([4, 8]),
                     'no': -rng.randint(1, 9)},
        lambda rng, p: maze(rng, p['w']),
        'h, w = map(int, input().split())\ng = [input() for _ in range(h)]\n'
        'steps = {(0, 0): 0}\nqueue = [(0, 0)]\nfor y, x in queue:\n'
        '    for dy in (-1, 0, 1):\n        for dx in (-1, 0, 1):\n'
        '            if @d@ == 4 and dy * dx:\n                continue\n'
        '            to = (y + dy, x + dx)\n'
        '            if 0 <= to[0] < h and 0 <= to[1] < w and to not in steps '
        'and g[to[0]][to[1]] == ".":\n'
        '                steps[to] = steps[y, x] + 1\n'
        '                queue.append(to)\n'
        'print(steps.get((h - 1, w - 1), @no@))',
        HEAD + '  int h, w; cin >> h >> w; vector<string> g(h);\n'
        '  for (auto& l : g) cin >> l;\n  const int far = 1000000;\n'
        '  vector<vector<int>> s(h, vector<int>(w, far));\n  s[0][0] = 0;\n'
        '  for (int round = 0; round < h * w; ++round)\n'
        '    for (int y = 0; y < h; ++y) for (int x = 0; x < w; ++x)\n'
        '      for (int b = max(0, y - 1); b <= min(h - 1, y + 1); ++b)\n'
        '        for (int a = max(0, x - 1); a <= min(w - 1, x + 1); ++a)\n'
        '          if (g[y][x] == \'.\' && (@d@ == 8 || a == x || b == y))\n'
        '            s[y][x] = min(s[y][x], s[b][a] + 1);\n'
        '  cout << (s[h-1][w-1] >= far ? @no@ : s[h-1][w-1]);\n}',
        ('steps[y, x] + 1', 'steps[y, x] + 2'), ('s[b][a] + 1', 's[b][a]'),
        ('steps[y, x] + 1', 'steps[y, x]')),
    Family(
        'Each line has a number that is not negative. Print each in base @b@, '
        'with the letters a, b, c .. for the digits from ten on.',
        lambda rng: {'b': rng.choice([b for b in range(3, 25) if b != 10])},
        lambda rng, p: '\n'.join(str(rng.choice([rng.randint(0, 50), p['b'],
                                                 p['b']**2,
                                                 rng.randint(0, 10**9)]))
                                 for _ in range(5)) + '\n',
        'import sys\ndef base(x):\n'
        '    d = "0123456789abcdefghijklmnop"[x % @b@]\n'
        '    return d if x < @b@ else base(x // @b@) + d\n'
        'for line in sys.stdin:\n    print(base(int(line)))',
        HEAD + '  long long x;\n  while (cin >> x) {\n    long long p = 1;\n'
        '    while (p * @b@ <= x) p *= @b@;\n    for (; p > 0; p /= @b@) {\n'
        '      const int d = x / p % @b@;\n'
        '      cout << char(d < 10 ? \'0\' + d : \'a\' + d - 10);\n    }\n'
        '    cout << "\\n";\n  }\n}',
        ('x < @b@ else', 'x <= @b@ else'), ('x / p % @b@', 'x / p % 10'),
        ('[x % @b@]', '[x % 10]')),
    Family(
        'The line has brackets of the kinds () and []. Print how deep they nest if '
        'they match and nest no deeper than @d@, else "no".',
        lambda rng: {'d': rng.randint(3, 14)},
        lambda rng, p: brackets(rng, p['d']),
        's = input().strip()\nopen_ = []\ngood, deepest = True, 0\nfor c in s:\n'
        '    if c in "([":\n        open_.append(c)\n'
        '        deepest = max(deepest, len(open_))\n'
        '    else:\n        good = good and bool(open_) and '
        'open_.pop() + c in ("()", "[]")\n'
        'print(deepest if good and not open_ and deepest <= @d@ else "no")',
        # What is innermost goes in each round.
        HEAD + '  string s; cin >> s;\n'
        '  int round = 0;\n  for (; round < @d@ && !s.empty(); ++round) {\n    string t;\n'
        '    for (size_t i = 0; i < s.size(); ++i) {\n'
        '      const string two = s.substr(i, 2);\n'
        '      if (two == "()" || two == "[]") ++i; else t += s[i];\n    }\n'
        '    s = t;\n  }\n  cout << (s.empty() ? to_string(round) : "no");\n}',
        ('<= @d@', '<= @d@ + 1'), ('round < @d@', 'round + 1 < @d@'),
        ('<= @d@', '<= @d@ - 1')),
    Family(
        'There are coins of @a@, @b@ and @c@. The line has an amount. Print in how '
        'many ways coins add up to it, whatever their order.',
        lambda rng: dict(zip('abc', sorted(rng.sample(range(1, 12), 3)))),
        lambda rng, p: f'{rng.randint(60, 160)}\n',
        'n = int(input())\nways = [1] + [0] * n\nfor coin in (@a@, @b@, @c@):\n'
        '    for i in range(coin, n + 1):\n        ways[i] += ways[i - coin]\n'
        'print(ways[n])',
        HEAD + '  int n; cin >> n; int ways = 0;\n'
        '  for (int i = 0; i * @a@ <= n; ++i)\n'
        '    for (int j = 0; i * @a@ + j * @b@ <= n; ++j)\n'
        '      ways += (n - i * @a@ - j * @b@) % @c@ == 0;\n  cout << ways;\n}',
        ('range(coin, n + 1)', 'range(n, coin - 1, -1)'),
        ('ways += (', 'ways ^= ('),
        ('print(ways[n])', 'print(ways[n] % 2)')),
]


def maze(rng, wall):
  h, w = rng.randint(3, 7), rng.randint(3, 7)
  rows = [[wall if rng.random() < 0.3 else '.' for _ in range(w)]
          for _ in range(h)]
  rows[0][0] = rows[-1][-1] = '.'
  return f'{h} {w}\n' + '\n'.join(map(''.join, rows)) + '\n'


def brackets(rng, depth):
  def nested(levels):
    inner = nested(levels - 1) if levels > 1 else ''
    kind = rng.choice(('()', '[]'))
    return kind[0] + inner + kind[1] + rng.choice(('', '()', '[]'))
  text = nested(rng.choice((rng.randint(1, depth), depth, depth + 1)))
  if rng.random() < 0.3:
    at = rng.randrange(len(text))
    text = text[:at] + rng.choice('()[]') + text[at + 1:]
  return text + '\n'


FAMILIES += [
    Family(
        'The first line has the rows and columns of a table of digits, whose lines '
        'follow. Print it turned by @q@ quarters clockwise, the digits of a row '
        'separated by "@s@".',
        lambda rng: {'q': rng.randint(1, 3), 's': rng.choice(['-', ':', '+', '/'])},
        lambda rng, p: (lambda h, w: f'{h} {w}\n' + '\n'.join(
            ''.join(rng.choice('0123456789') for _ in range(w))
            for _ in range(h)) + '\n')(rng.randint(2, 4), rng.randint(2, 5)),
        'h, w = map(int, input().split())\ng = [input() for _ in range(h)]\n'
        'for _ in range(@q@):\n    g = list(zip(*g[::-1]))\n'
        'for row in g:\n    print("@s@".join(row))',
        HEAD + '  int h, w; cin >> h >> w; vector<string> g(h);\n'
        '  for (auto& l : g) cin >> l;\n'
        '  const bool flat = @q@ == 2;\n  const int rows = flat ? h : w, cols = '
        'flat ? w : h;\n'
        '  for (int y = 0; y < rows; ++y) {\n    for (int x = 0; x < cols; ++x) {\n'
        '      if (x) cout << "@s@";\n'
        '      cout << (@q@ == 1 ? g[h-1-x][y] : @q@ == 2 ? g[h-1-y][w-1-x] : '
        'g[x][w-1-y]);\n    }\n    cout << "\\n";\n  }\n}',
        ('range(@q@)', 'range(@q@ + 1)'), ('if (x) cout', 'if (x > 1) cout'),
        ('"@s@".join(row)', 'row[0] + "@s@".join(row[1:])')),
    Family(
        'The line has words. Print the @k@ most frequent with their numbers, one a '
        'line, those of one number in the order of the alphabet; all, if there '
        'are fewer.',
        lambda rng: {'k': rng.randint(1, 12)},
        lambda rng, p: ' '.join(rng.choice(
            'ant bee cat dog elk fox gnu hen ibis jay kite lynx'.split())
                                for _ in range(rng.randint(10, 40))) + '\n',
        'from collections import Counter\nc = Counter(input().split())\n'
        'for word in sorted(c, key=lambda w: (-c[w], w))[:@k@]:\n'
        '    print(word, c[word])',
        HEAD + '  map<string, int> c; string s;\n  while (cin >> s) ++c[s];\n'
        '  for (int i = 0; i < @k@ && !c.empty(); ++i) {\n'
        '    auto best = c.begin();\n    for (auto it = c.begin(); it != c.end(); '
        '++it)\n      if (it->second > best->second) best = it;\n'
        '    cout << best->first << " " << best->second << "\\n";\n'
        '    c.erase(best);\n  }\n}',
        ('(-c[w], w)', '(-c[w], w[::-1])'),
        ('it->second > best', 'it->second < best'),
        ('(-c[w], w)', '(c[w], w)')),
    Family(
        'The line has n. Print how many strings of n zeros and ones have no @k@ '
        'equal digits in a row and have an even number of ones if n is even, '
        'modulo @m@.',
        lambda rng: {'k': rng.randint(3, 6), 'm': rng.choice([1000, 997, 512, 600])},
        lambda rng, p: f'{rng.randint(6, 18)}\n',
        'n = int(input())\nstate = {(2, 0, 0): 1}\nfor _ in range(n):\n'
        '    to = {}\n    for (last, run, odd), ways in state.items():\n'
        '        for digit in (0, 1):\n'
        '            r = run + 1 if digit == last else 1\n'
        '            if r < @k@:\n'
        '                key = (digit, r, odd ^ digit)\n'
        '                to[key] = to.get(key, 0) + ways\n    state = to\n'
        'print(sum(w for (_, _, odd), w in state.items() if n % 2 or not odd) '
        '% @m@)',
        HEAD + '  int n; cin >> n; long long count = 0;\n'
        '  for (int s = 0; s < 1 << n; ++s) {\n    int run = 0, longest = 0, last ='
        ' -1;\n    for (int i = 0; i < n; ++i) {\n      const int d = s >> i & 1;\n'
        '      run = d == last ? run + 1 : 1;\n      last = d;\n'
        '      longest = max(longest, run);\n    }\n'
        '    if (longest < @k@ && (n % 2 || __builtin_popcount(s) % 2 == 0)) '
        '++count;\n  }\n  cout << count % @m@;\n}',
        ('odd ^ digit', 'odd'), ('longest < @k@', 'longest <= @k@'),
        ('r < @k@', 'r <= @k@')),
    Family(
        'From the number of the line one goes on, again and again, to the sum of '
        'its digits each to the power of @p@, plus @c@. Print after how many steps '
        'a number comes that was there before.',
        lambda rng: {'p': rng.randint(2, 3), 'c': rng.randint(0, 9)},
        lambda rng, p: f'{rng.randint(1, 99999)}\n',
        'x = int(input())\nseen = set()\nwhile x not in seen:\n    seen.add(x)\n'
        '    x = sum(int(d) ** @p@ for d in str(x)) + @c@\nprint(len(seen))',
        HEAD + '  long long x; cin >> x; vector<long long> was;\n'
        '  while (find(was.begin(), was.end(), x) == was.end()) {\n'
        '    was.push_back(x);\n    long long sum = @c@;\n'
        '    for (; x > 0; x /= 10) sum += @p@ == 2 ? (x % 10) * (x % 10) : (x % '
        '10) * (x % 10) * (x % 10);\n    x = sum;\n  }\n  cout << was.size();\n}',
        ('len(seen)', 'len(seen) - 1'), ('sum = @c@', 'sum = @c@ + 1'),
        ('+ @c@', '+ @c@ + 1')),
    Family(
        'The first line has n, each of n lines the ends a and b of an interval, '
        'a <= b, both integers and both in it. Print how many multiples of @m@ '
        'lie in one of them at least.',
        lambda rng: {'m': rng.randint(2, 15)},
        lambda rng, p: (lambda n: f'{n}\n' + ''.join(
            '%d %d\n' % tuple(sorted((rng.randint(-99, 99), rng.randint(-99, 99))))
            for _ in range(n)))(rng.randint(1, 5)),
        'n = int(input())\nspans = sorted(tuple(map(int, input().split())) for _ in '
        'range(n))\ncount, end = 0, -1000\nfor a, b in spans:\n'
        '    a = max(a, end + 1)\n    if a <= b:\n'
        '        count += b // @m@ - (a - 1) // @m@\n        end = b\nprint(count)',
        HEAD + '  int n; cin >> n; set<int> in;\n  while (n--) {\n'
        '    int a, b; cin >> a >> b;\n'
        '    for (int x = a; x <= b; ++x) if (x % @m@ == 0) in.insert(x);\n  }\n'
        '  cout << in.size();\n}',
        ('(a - 1) //', 'a //'), ('x <= b', 'x <= b - @m@'),
        ('range(n))\ncount', 'range(n))\nspans = [(a, b - @m@) for a, b in spans]'
         '\ncount')),
    Family(
        LISTED + 'Print the length of the longest part, in order but not of '
        'neighbours only, each of whose values exceeds the last by @d@ at least.',
        lambda rng: {'d': rng.randint(0, 12)},
        lambda rng, p: listed(rng, 0, 40, 25, 12),
        'input()\na = list(map(int, input().split()))\nends = {}\nbest = 0\n'
        'for x in a:\n    longest = 1 + max((l for v, l in ends.items() if v + @d@ '
        '<= x), default=0)\n    ends[x] = max(ends.get(x, 0), longest)\n'
        '    best = max(best, longest)\nprint(best)',
        HEAD + READ + '  vector<int> l(n, 1);\n  for (int i = n - 1; i >= 0; --i)\n'
        '    for (int j = i + 1; j < n; ++j)\n      if (a[j] - a[i] >= @d@) l[i] = '
        'max(l[i], l[j] + 1);\n  cout << *max_element(l.begin(), l.end());\n}',
        ('default=0', 'default=1'), ('>= @d@', '> @d@'),
        ('<= x)', '< x)')),
    Family(
        'The first line has x, the second the coefficients of a polynomial, the '
        'highest first. Print its value at x modulo @p@, not negative.',
        lambda rng: {'p': rng.choice([7, 11, 13, 97, 101, 499, 997, 1009, 7919,
                                      9973, 10007, 65537])},
        lambda rng, p: f'{rng.randint(-50, 50)}\n'
        f'{numbers(rng, rng.randint(4, 9), -20, 20)}\n',
        'x = int(input())\nvalue = 0\nfor c in map(int, input().split()):\n'
        '    value = value * x + c\nprint(value % @p@)',
        HEAD + '  long long x, c; cin >> x; vector<long long> a;\n'
        '  while (cin >> c) a.push_back(c);\n  long long sum = 0, power = 1;\n'
        '  for (size_t i = a.size(); i-- > 0;) {\n'
        '    sum = (sum + a[i] * power) % @p@;\n    power = power * x % @p@;\n  }\n'
        '  cout << (sum + @p@) % @p@;\n}',
        ('value * x + c', 'value + x * c'),
        ('(sum + @p@) % @p@', '(sum + @p@) % @p@ - 1'),
        ('value % @p@', 'value % @p@ - 1')),
    Family(
        'A year has @m@ months of @d@ days, the last month two days more. Days are '
        'counted from 0, the first of the first month of year 1. Print for the '
        'number of each line its year, month and day.',
        lambda rng: {'m': rng.randint(5, 14), 'd': rng.randint(20, 35)},
        lambda rng, p: '\n'.join(str(rng.choice([rng.randint(0, 5000),
                                                 (p['m'] * p['d'] + 2) *
                                                 rng.randint(1, 9) - 1]))
                                 for _ in range(5)) + '\n',
        'import sys\nfor line in sys.stdin:\n'
        '    year, day = divmod(int(line), @m@ * @d@ + 2)\n'
        '    month = min(day // @d@, @m@ - 1)\n'
        '    print(year + 1, month + 1, day - month * @d@ + 1)',
        HEAD + '  long long left;\n  while (cin >> left) {\n    int year = 1, month = '
        '1;\n    for (;;) {\n      const int days = month == @m@ ? @d@ + 2 : @d@;\n'
        '      if (left < days) break;\n      left -= days;\n'
        '      if (++month > @m@) { month = 1; ++year; }\n    }\n'
        '    cout << year << " " << month << " " << left + 1 << "\\n";\n  }\n}',
        ('@m@ - 1)', '@m@)'), ('@d@ + 2 :', '@d@ + 1 :'), ('+ 2)', '+ 1)')),
    Family(
        'Each line is an order to a stack: "push X", "add", "mul" (the two topmost '
        'give way to their result), "dup". All is modulo @m@; "add" adds @c@ '
        'besides. Print the stack at the end, the top last.',
        lambda rng: {'m': rng.randint(50, 999), 'c': rng.randint(1, 9)},
        lambda rng, p: orders(rng),
        'import sys\ns = []\nfor line in sys.stdin:\n    word = line.split()\n'
        '    if word[0] == "push":\n        s.append(int(word[1]) % @m@)\n'
        '    elif word[0] == "dup":\n        s.append(s[-1])\n    else:\n'
        '        b, a = s.pop(), s.pop()\n'
        '        s.append((a + b + @c@ if word[0] == "add" else a * b) % @m@)\n'
        'print(*s)',
        HEAD + '  deque<long long> s; string w;\n  while (cin >> w) {\n'
        '    if (w[0] == \'p\') { long long x; cin >> x; s.push_front(x % @m@); '
        'continue; }\n    if (w[0] == \'d\') { s.push_front(s.front()); continue; }\n'
        '    long long t = s.front(); s.pop_front();\n'
        '    s.front() = (w[0] == \'a\' ? s.front() + t + @c@ : s.front() * t) % '
        '@m@;\n  }\n  while (!s.empty()) { cout << s.back() << " "; s.pop_back(); }\n'
        '}',
        ('a + b + @c@', 'a + b'), ('s.front() * t)', 's.front() + t)'),
        ('a * b)', 'a + b)')),
    Family(
        'n people, numbered from 1, stand in a circle; n is on the line. Counting '
        'from the first, every person counted @k@ leaves, and counting goes on '
        'from 1 with the next. Print who is left.',
        lambda rng: {'k': rng.randint(2, 30)},
        lambda rng, p: f'{rng.randint(2, 200)}\n',
        'n = int(input())\nat = 0\nfor size in range(2, n + 1):\n'
        '    at = (at + @k@) % size\nprint(at + 1)',
        HEAD + '  int n; cin >> n; list<int> c;\n'
        '  for (int i = 1; i <= n; ++i) c.push_back(i);\n'
        '  while (c.size() > 1) {\n    for (int i = 1; i < @k@; ++i) '
        'c.splice(c.end(), c, c.begin());\n    c.pop_front();\n  }\n'
        '  cout << c.front();\n}',
        ('print(at + 1)', 'print(at + 2)'),
        ('int i = 1; i < @k@', 'int i = 0; i < @k@'), ('+ @k@)', '+ @k@ + 1)')),
]


def orders(rng):
  lines, size = [], 0
  for _ in range(rng.randint(8, 20)):
    word = rng.choice(['push', 'push', 'dup', 'add', 'mul'])
    if (word == 'dup' and size < 1) or (word in ('add', 'mul') and size < 2):
      word = 'push'
    size += 1 if word in ('push', 'dup') else -1
    lines.append(f'push {rng.randint(0, 500)}' if word == 'push' else word)
  return '\n'.join(lines) + '\n'
