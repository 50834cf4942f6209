/* SPDX-License-Identifier: MIT */
/* The docstrings of queues. */

#define DOC(name, text) static const char doc_##name[] = text

DOC(queue, "Both ends of a pipe, and the counts of its items.");

DOC(put,
    "put($self, obj, block=True, timeout=None)\n--\n\n"
    "Put an object into the queue.\n\n"
    "When this returns, the object is in shared memory, and stays there if this process dies.  While the\n"
    "queue has maxsize items, or the buffer is full, this waits.  It raises queue.Full when the time is\n"
    "up, or at once if block is False.  An object that is longer than the buffer needs a consumer at the\n"
    "same time, and putting one without waiting raises ValueError.");

DOC(get, "get($self, block=True, timeout=None)\n--\n\n"
	 "Take an object out of the queue, and return it.\n\n"
	 "Waits until there is one.  Raises queue.Empty when the time is up, or at once if block is False.");

DOC(put_nowait, "put_nowait($self, obj, /)\n--\n\nput(obj, block=False)");

DOC(get_nowait, "get_nowait($self)\n--\n\nget(block=False)");

DOC(put_many,
    "put_many($self, objs, block=True, timeout=None)\n--\n\n"
    "Put several objects in order, and return how many: all, unless the time is up.\n\n"
    "Raises queue.Full if none could be put.  All are pickled first, so an object that cannot be pickled\n"
    "leaves the queue as it was.  If an exception such as KeyboardInterrupt interrupts the wait, the\n"
    "objects that were put before stay in the queue.  Objects of other producers may come in between.");

DOC(get_many,
    "get_many($self, count, block=True, timeout=None)\n--\n\n"
    "Take at most 'count' objects, and return a list of them: at least one.\n\n"
    "Waits for the first only.  Raises queue.Empty when the time is up, or at once if block is False.  If\n"
    "one of them cannot be loaded, those before it are returned, and the next call of this process\n"
    "raises the exception.");

DOC(qsize, "qsize($self)\n--\n\n"
	   "The number of objects in the queue: all that were put and not yet taken.\n\n"
	   "While others put and take, it may have changed by the time this returns.");

DOC(empty, "empty($self)\n--\n\nWhether there is nothing to get.");

DOC(full, "full($self)\n--\n\nWhether the queue has maxsize objects; False if maxsize is 0.");

DOC(close, "close($self)\n--\n\n"
	   "Let go of the queue in this process; from then on put and get raise ValueError.\n\n"
	   "What is in the queue stays there for the other processes that have it.");

#undef DOC
