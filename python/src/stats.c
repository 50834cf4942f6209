/* SPDX-License-Identifier: MIT */
/* The statistics of a pipe, as plain tuples.  The package makes named tuples of them. */
#include "core.h"

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

/* The fields of buffered_pipe.SideStats. */
static PyObject *side_stats(const struct bufpipe_side_stats *s)
{
	return Py_BuildValue("(KKKKKddK)", (unsigned long long)s->messages, (unsigned long long)s->bytes,
			     (unsigned long long)s->waits, (unsigned long long)s->refusals,
			     (unsigned long long)s->sleeps, seconds(s->slept), seconds(s->asleep),
			     (unsigned long long)s->wakeups);
}

/* The fields of buffered_pipe.RingStats, or None if the end does not have this direction. */
static PyObject *ring_stats(const struct bufpipe_ring_stats *s)
{
	if (!s->size)
		return Py_NewRef(Py_None);
	return Py_BuildValue("(KKKKNN)", (unsigned long long)s->size, (unsigned long long)s->used,
			     (unsigned long long)s->messages, (unsigned long long)s->high_water,
			     side_stats(&s->sender), side_stats(&s->receiver));
}

/* _stats(): a pair, of the direction in which the end sends and the one in which it receives. */
PyObject *handle_stats(PyObject *self, PyObject *unused)
{
	struct hold *hold = handle_hold((struct end *)self);
	struct bufpipe_stats stats;
	int r;

	(void)unused;
	if (!hold)
		return NULL;
	r = bufpipe_get_stats(hold->pipe, &stats);
	if (r < 0)
		return raise_error(hold, NEITHER, r);
	return Py_BuildValue("(NN)", ring_stats(&stats.out), ring_stats(&stats.in));
}
