/* SPDX-License-Identifier: MIT */
/*
 * Writes and reads the pickles of small objects of a few built-in types.  Calling the
 * pickler for these would take most of the time of a put.  Any unpickler can load what
 * is written here.  A pickle of any other form is left to the unpickler.
 */
#include "quick.h"

#include <string.h>

#define OP_NONE         'N'
#define OP_TRUE         '\x88'
#define OP_FALSE        '\x89'
#define OP_INT1         'K'
#define OP_INT2         'M'
#define OP_INT4         'J'
#define OP_LONG1        '\x8a'
#define OP_FLOAT        'G'
#define OP_SHORT_BYTES  'C'
#define OP_SHORT_STRING '\x8c'
#define OP_STOP         '.'

#define HEAD 3 /* the protocol, and the operation */

/* Numbers in a pickle are little-endian, except for the float. */
static size_t write_int(char *to, long long value)
{
	if (value >= 0 && value <= UINT8_MAX) {
		to[0] = OP_INT1;
		to[1] = (char)value;
		return 2;
	}
	if (value >= 0 && value <= UINT16_MAX) {
		to[0] = OP_INT2;
		to[1] = (char)value;
		to[2] = (char)(value >> 8);
		return 3;
	}
	if (value >= INT32_MIN && value <= INT32_MAX) {
		to[0] = OP_INT4;
		for (int i = 0; i < 4; i++)
			to[1 + i] = (char)(value >> (8 * i));
		return 5;
	}
	to[0] = OP_LONG1;
	to[1] = 8;
	for (int i = 0; i < 8; i++)
		to[2 + i] = (char)(value >> (8 * i));
	return 10;
}

static size_t write_float(char *to, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	to[0] = OP_FLOAT;
	for (int i = 0; i < 8; i++)
		to[1 + i] = (char)(bits >> (56 - 8 * i));
	return 9;
}

static size_t write_text(char *to, char op, const char *text, Py_ssize_t len)
{
	if (!text || len > UINT8_MAX)
		return 0;
	to[0] = op;
	to[1] = (char)len;
	memcpy(to + 2, text, (size_t)len);
	return 2 + (size_t)len;
}

static size_t write_value(char *to, PyObject *object)
{
	if (PyLong_CheckExact(object)) {
		int overflow;
		long long value = PyLong_AsLongLongAndOverflow(object, &overflow);

		return overflow ? 0 : write_int(to, value);
	}
	if (PyUnicode_CheckExact(object))
		/* Only ASCII, because it is UTF-8 as it is in memory. */
		return PyUnicode_IS_COMPACT_ASCII(object)
			       ? write_text(to, OP_SHORT_STRING, PyUnicode_DATA(object),
					    PyUnicode_GET_LENGTH(object))
			       : 0;
	if (PyBytes_CheckExact(object))
		return write_text(to, OP_SHORT_BYTES, PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object));
	if (PyFloat_CheckExact(object))
		return write_float(to, PyFloat_AS_DOUBLE(object));
	to[0] = object == Py_None ? OP_NONE : object == Py_True ? OP_TRUE : OP_FALSE;
	return object == Py_None || PyBool_Check(object);
}

size_t quick_dump(char *to, PyObject *object)
{
	size_t len = write_value(to + HEAD - 1, object);

	if (!len)
		return 0;
	to[0] = '\x80';
	to[1] = 5;
	to[HEAD - 1 + len] = OP_STOP;
	return HEAD + len;
}

static long long read_int(const unsigned char *from, int bytes)
{
	unsigned long long value = 0;

	for (int i = 0; i < bytes; i++)
		value |= (unsigned long long)from[i] << (8 * i);
	return (long long)value;
}

static PyObject *read_float(const unsigned char *from)
{
	uint64_t bits = 0;
	double value;

	for (int i = 0; i < 8; i++)
		bits = bits << 8 | from[i];
	memcpy(&value, &bits, sizeof(value));
	return PyFloat_FromDouble(value);
}

/* 'at' points behind the operation; len does not count the stop. */
static PyObject *read_value(char op, const unsigned char *at, size_t len)
{
	switch (op) {
	case OP_INT1:
		return len == 1 ? PyLong_FromLong(at[0]) : NULL;
	case OP_INT2:
		return len == 2 ? PyLong_FromLong((long)read_int(at, 2)) : NULL;
	case OP_INT4:
		return len == 4 ? PyLong_FromLong((int32_t)read_int(at, 4)) : NULL;
	case OP_LONG1:
		return len == 9 && at[0] == 8 ? PyLong_FromLongLong(read_int(at + 1, 8)) : NULL;
	case OP_FLOAT:
		return len == 8 ? read_float(at) : NULL;
	case OP_SHORT_BYTES:
		return len && len == 1u + at[0] ? PyBytes_FromStringAndSize((const char *)at + 1, at[0])
						: NULL;
	case OP_SHORT_STRING:
		return len && len == 1u + at[0]
			       ? PyUnicode_DecodeUTF8((const char *)at + 1, at[0], "surrogatepass")
			       : NULL;
	case OP_NONE:
		return len == 0 ? Py_NewRef(Py_None) : NULL;
	case OP_TRUE:
		return len == 0 ? Py_NewRef(Py_True) : NULL;
	case OP_FALSE:
		return len == 0 ? Py_NewRef(Py_False) : NULL;
	default:
		return NULL;
	}
}

PyObject *quick_load(const char *from, size_t len)
{
	if (len <= HEAD || len > QUICK_MOST || from[0] != '\x80' || from[1] != 5 || from[len - 1] != OP_STOP)
		return NULL;
	return read_value(from[2], (const unsigned char *)from + HEAD, len - HEAD - 1);
}
