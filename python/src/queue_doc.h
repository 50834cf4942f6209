/* SPDX-License-Identifier: MIT */
/* What help() says about queues. */

#define DOC(name, text) static const char doc_##name[] = text

DOC(queue, "Both ends of a pipe, and the number of items in it.");

DOC(put,
    "put($self, obj, block=True, timeout=None)\n--\n\n"
    "Put an object into the queue.\n\n"
    "It is in shared memory when this returns, and stays there if this process dies.  While the queue\n"
    "has maxsize items, or the buffer is full, this waits; queue.Full when the time is up, or at once if\n"
    "block is False.  An object that is longer than the buffer needs a consumer at the same time: to put\n"
    "one without waiting is a ValueError.");

DOC(get, "get($self, block=True, timeout=None)\n--\n\n"
	 "Take an object out of the queue, and return it.\n\n"
	 "Waits until there is one; queue.Empty when the time is up, or at once if block is False.");

DOC(put_nowait, "put_nowait($self, obj, /)\n--\n\nput(obj, block=False)");

DOC(get_nowait, "get_nowait($self)\n--\n\nget(block=False)");

DOC(put_many,
    "put_many($self, objs, block=True, timeout=None)\n--\n\n"
    "Put several objects in order, and return how many: all, unless the time is up.\n\n"
    "queue.Full if none could be put.  All are pickled first, so one that cannot be pickled leaves\n"
    "the queue as it was.  An exception that interrupts the wait, such as KeyboardInterrupt, leaves\n"
    "those in the queue that were put before.  Objects of other producers may come between them.");

DOC(get_many,
    "get_many($self, count, block=True, timeout=None)\n--\n\n"
    "Take at most 'count' objects, and return a list of them: at least one.\n\n"
    "Waits for the first only.  queue.Empty when the time is up, or at once if block is False.  If one\n"
    "of them cannot be loaded, those before it are returned, and the next call of this process raises\n"
    "the exception.");

DOC(qsize, "qsize($self)\n--\n\n"
	   "The number of objects in the queue: all that were put and not yet taken.\n\n"
	   "While others put and take, it may be another one by the time this returns.");

DOC(empty, "empty($self)\n--\n\nWhether there is nothing to get.");

DOC(full, "full($self)\n--\n\nWhether the queue has maxsize objects; False if maxsize is 0.");

DOC(close, "close($self)\n--\n\n"
	   "This process lets go of the queue; put and get are a ValueError then.\n\n"
	   "What is in it stays there for the processes that have it.");

#undef DOC
