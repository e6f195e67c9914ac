// Whether two final answers mean the same. Text is compared with text and
// numbers with numbers, exactly; nothing is evaluated.
//
// Equal are forms that models and data sets write for one value:
//
//   numbers      42  +42  042  42.0  42.  1,234  1{,}234  1,\!234  1\,234
//                1 234  1~234  .5  - 5  1.5e3  1.5 \times 10^{3}
//   fractions    1/2  2/4  \frac{1}{2}  \dfrac12  0.5  50%  50\%
//                mixed numbers: 1 1/2  1\frac{1}{2}
//   dollars      $42  \$42  42\$  -$42 are 42
//   lists        2, 3  2,3    item by item, in order; so are the insides of
//                ( ) [ ] \{ \}, whose brackets must be the same, the intervals
//                of a \cup, and the cells of a pmatrix and its like
//   around them  $..$  $$..$$  \(..\)  \[..\]  **..**  *..*  `..`  a fenced
//                block of code  {..} around one item; __..__  _.._  but around
//                what can be a name of letters: __init__ is not init
//                \boxed{..}; one full stop after; (E) for E, of one letter
//   LaTeX        \left \right \big \displaystyle {\bf ..}, spaces,
//                \text{..} \mathrm{..} and the like, which only change how
//                something looks, but are one argument: \frac\text{12} is not
//                \frac12; nor is 2\text{e}3 or 2e\!3 the number 2e3;
//                arguments without braces: x^2  \sqrt x  \frac\pi2  ^\circ
//                names of one thing: \le \leq, \ge \geq, \ne \neq, \dbinom
//   Unicode      the characters for these and for \cup \infty \pi ^\circ \pm
//                \emptyset, hyphens and dashes for minus, vulgar fractions,
//                digits raised (x^{12}) and lowered, a root of one letter or of
//                one number (\sqrt{12}), the punctuation of Chinese and
//                Japanese, whose comma separates even before three digits
//   signs        a + in front changes nothing: (0, +\infty)  x = +3y
//   blanks       x + 1 is x+1, 2 n is 2n, 5 cm is 5cm (letters of ASCII);
//                between words any number is one; a control character is a
//                blank, a zero-width space is nothing
//
// Single blanks group thousands like commas, but where another number or a / is
// beside them (1 234/567 is a mixed number) and within brackets.
//
// A comma after one to three digits (the first not 0), or after such a group,
// and before exactly three digits without a blank groups thousands; any other
// comma separates: 1,234 is a number; 1,23  1, 234  0,123  1234,567 are lists.
// Within ( ) [ ] \{ \} \langle \rangle < > | | and the braces of an index or a
// power a bare comma always separates: (3,100) is (3, 100) and never (3100), as
// data sets write coordinates and sets, and so is {3,100}, the set \{3, 100\}
// in the bare braces of many models. What is written to group thousands does so
// there too: (1{,}234, 5) is (1234, 5).
//
// Unequal on purpose, being more or less than a value: units (5 cm, 90^\circ,
// any currency but dollars), intervals against tuples, sets against lists, what
// needs algebra (x=5, 2+3, \pi/2 against \frac{\pi}{2}, 2^3, 2 \cdot 3 against
// 2 \times 3, sets in another order), x^23 against x^{23}, superfluous braces
// within ({x}+1), a root's sign before brackets against \sqrt{..}, x 2 against
// x2 (a name), matrices of other brackets, array, sentences, and letters of
// another case. Digits are ASCII's alone. Unequal values never are equal.
//
// Numbers are rationals of any size, without rounding or overflow; only an
// exponent beyond +-1000 (so that 1e1001 is not 10e1000) and brackets nested
// deeper than 8 make what holds them text. Time grows with the product of the
// sizes at worst (long fractions), so the caller bounds them. Pure;
// thread-safe.

#ifndef ENVIRONMENTS_SAME_ANSWER_H_
#define ENVIRONMENTS_SAME_ANSWER_H_

#include <string>

namespace temper {

// Symmetric. Bytes need not be UTF-8.
bool SameAnswer(const std::string& a, const std::string& b);

}  // namespace temper

#endif  // ENVIRONMENTS_SAME_ANSWER_H_
