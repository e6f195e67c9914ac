// Transcendentals for numbers that are recorded or become weights: rotary
// tables, schedules, loss scalars, log-sum-exp. glibc picks its variant by CPU;
// these are one sequence of 80-bit operations, rounded once at the end, so they
// give the same bits on every x86-64 machine in any float mode. Error below
// 0.51 ulp except where stated. Results below 2^-1022 are 0. Thread-safe.

#ifndef KERNELS_BASE_MATH_H_
#define KERNELS_BASE_MATH_H_

namespace temper {

double Exp(double x);
// exp(x) - 1 without cancellation.
double Expm1(double x);
// Natural log; -inf at 0, NaN below.
double Log(double x);
// CHECK |x| <= 2^30; absolute error below 2^-53.
double Sin(double x);
double Cos(double x);
// x^y for x > 0, or x = 0 and y > 0 (CHECKed). Error below 2 ulp.
double Pow(double x, double y);

}  // namespace temper

#endif  // KERNELS_BASE_MATH_H_
