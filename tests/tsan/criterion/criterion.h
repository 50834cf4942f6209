/* SPDX-License-Identifier: MIT */
/*
 * A stand-in for Criterion under ThreadSanitizer, where libcriterion does not
 * start, and for cross compilers, which have none: as much of its interface as
 * our tests use.  See runner.c.
 */
#ifndef TSAN_CRITERION_H
#define TSAN_CRITERION_H

#include <stddef.h>
#include <string.h>

struct cr_options {
	void (*init)(void);
	void (*fini)(void);
	double timeout;
	int disabled;
	int sentinel_;
};

struct cr_test {
	const char *suite;
	const char *name; /* NULL: options of the whole suite */
	void (*run)(void);
	struct cr_options options;
	struct cr_test *next;
};

void cr_register(struct cr_test *test);
void cr_fail(int stop, const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void cr_skip(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Under the names that Criterion has inside, so that a test can wrap what Test makes. */
#define CR_EXPAND(x) x
#define Test(...)    CR_TEST_BASE(__VA_ARGS__, .sentinel_ = 0)
#define CR_TEST_BASE(Suite, Name, ...)                                           \
	static void Suite##_##Name##_run(void);                                  \
	__attribute__((constructor)) static void Suite##_##Name##_register(void) \
	{                                                                        \
		static struct cr_test test = {                                   \
			.suite = #Suite,                                         \
			.name = #Name,                                           \
			.run = Suite##_##Name##_run,                             \
			.options = { __VA_ARGS__ },                              \
		};                                                               \
		cr_register(&test);                                              \
	}                                                                        \
	static void Suite##_##Name##_run(void)

#define TestSuite(Suite, ...)                                           \
	__attribute__((constructor)) static void Suite##_register(void) \
	{                                                               \
		static struct cr_test suite = {                         \
			.suite = #Suite,                                \
			.options = { .disabled = 0, ##__VA_ARGS__ },    \
		};                                                      \
		cr_register(&suite);                                    \
	}                                                               \
	struct cr_test

/* The text may be missing. */
#define cr_check_(stop, condition, ...)                                    \
	do {                                                               \
		if (!(condition))                                          \
			cr_fail(stop, __FILE__, __LINE__, "" __VA_ARGS__); \
	} while (0)

#define cr_assert(condition, ...)      cr_check_(1, condition, __VA_ARGS__)
#define cr_assert_not(condition, ...)  cr_check_(1, !(condition), __VA_ARGS__)
#define cr_assert_eq(a, b, ...)        cr_check_(1, (a) == (b), __VA_ARGS__)
#define cr_assert_neq(a, b, ...)       cr_check_(1, (a) != (b), __VA_ARGS__)
#define cr_assert_gt(a, b, ...)        cr_check_(1, (a) > (b), __VA_ARGS__)
#define cr_assert_geq(a, b, ...)       cr_check_(1, (a) >= (b), __VA_ARGS__)
#define cr_assert_lt(a, b, ...)        cr_check_(1, (a) < (b), __VA_ARGS__)
#define cr_assert_leq(a, b, ...)       cr_check_(1, (a) <= (b), __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...)    cr_check_(1, !strcmp(a, b), __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...) cr_check_(1, !memcmp(a, b, n), __VA_ARGS__)
#define cr_assert_null(p, ...)         cr_check_(1, !(p), __VA_ARGS__)
#define cr_assert_not_null(p, ...)     cr_check_(1, (p), __VA_ARGS__)
#define cr_assert_fail(...)            cr_check_(1, 0, __VA_ARGS__)
#define cr_expect(condition, ...)      cr_check_(0, condition, __VA_ARGS__)
#define cr_expect_eq(a, b, ...)        cr_check_(0, (a) == (b), __VA_ARGS__)
#define cr_skip_test(...)              cr_skip("" __VA_ARGS__)
#define cr_log_info(...)               ((void)0)

#endif
