/* SPDX-License-Identifier: MIT */
#include "frame.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>

static const char magic[4] = { 'b', 'p', 'F', '1' };

#define AT_KIND    4u
#define AT_SESSION 8u
#define AT_FIRST   24u
#define AT_COUNT   32u
#define AT_INDEX   36u
#define AT_SUM     40u
#define AT_ENDS    44u

static void put32(char *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
}

static void put64(char *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

static uint32_t get32(const char *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const char *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

/* The reflected polynomial of CRC-32C. */
#define POLYNOMIAL 0x82f63b78u

/* The sum of one byte after 0. */
static uint32_t byte_table[256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static uint32_t sum_by_table(uint32_t sum, const unsigned char *data, size_t len)
{
	while (len--)
		sum = sum >> 8 ^ byte_table[(sum ^ *data++) & 0xff];
	return sum;
}

#ifdef __x86_64__

/* So many bytes are summed beside two other blocks of the same length. */
#define BLOCK 4096u

/* What BLOCK zero bytes make of each of the four bytes of a sum. */
static uint32_t shift_table[4][256];

__attribute__((target("sse4.2"))) static uint32_t sum_by_instruction(uint32_t sum, const unsigned char *data,
								     size_t len)
{
	uint64_t wide = sum;
	uint64_t word;

	for (; len >= sizeof(word); len -= sizeof(word), data += sizeof(word)) {
		memcpy(&word, data, sizeof(word));
		wide = __builtin_ia32_crc32di(wide, word);
	}
	sum = (uint32_t)wide;
	while (len--)
		sum = __builtin_ia32_crc32qi(sum, *data++);
	return sum;
}

static uint32_t shift(uint32_t sum)
{
	return shift_table[0][sum & 0xff] ^ shift_table[1][sum >> 8 & 0xff] ^
	       shift_table[2][sum >> 16 & 0xff] ^ shift_table[3][sum >> 24];
}

/*
 * The instruction has its result after three cycles, but one can start in each
 * cycle.  So three blocks are summed side by side; as sums are linear, the sum of
 * the first two is then moved over the block that follows.
 */
__attribute__((target("sse4.2"))) static uint32_t sum_three_blocks(uint32_t sum, const unsigned char *data)
{
	uint64_t sums[3] = { sum, 0, 0 };
	uint64_t word;

	for (size_t at = 0; at < BLOCK; at += sizeof(word)) {
		memcpy(&word, data + at, sizeof(word));
		sums[0] = __builtin_ia32_crc32di(sums[0], word);
		memcpy(&word, data + BLOCK + at, sizeof(word));
		sums[1] = __builtin_ia32_crc32di(sums[1], word);
		memcpy(&word, data + (size_t)2 * BLOCK + at, sizeof(word));
		sums[2] = __builtin_ia32_crc32di(sums[2], word);
	}
	return shift(shift((uint32_t)sums[0]) ^ (uint32_t)sums[1]) ^ (uint32_t)sums[2];
}

static uint32_t sum_fast(uint32_t sum, const unsigned char *data, size_t len)
{
	const size_t three = (size_t)3 * BLOCK;

	for (; len >= three; len -= three, data += three)
		sum = sum_three_blocks(sum, data);
	return sum_by_instruction(sum, data, len);
}

#endif

static void make_tables(void)
{
	static const unsigned char zeros[64];

	for (uint32_t i = 0; i < 256; i++) {
		byte_table[i] = i;
		for (int bit = 0; bit < 8; bit++)
			byte_table[i] = byte_table[i] >> 1 ^ (byte_table[i] & 1 ? POLYNOMIAL : 0);
	}
#ifdef __x86_64__
	for (uint32_t bit = 0; bit < 32; bit++) {
		uint32_t *table = shift_table[bit / 8];
		uint32_t one = 1u << bit % 8;
		uint32_t sum = 1u << bit;

		for (size_t at = 0; at < BLOCK; at += sizeof(zeros))
			sum = sum_by_table(sum, zeros, sizeof(zeros));
		/* Those with the bits below it are there already. */
		for (uint32_t i = 0; i < one; i++)
			table[one + i] = sum ^ table[i];
	}
#endif
}

uint32_t frame_sum(uint32_t before, const void *data, size_t len)
{
	pthread_once(&tables_once, make_tables);
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return ~sum_fast(~before, data, len);
#endif
	return ~sum_by_table(~before, data, len);
}

size_t frame_body(enum frame_kind kind)
{
	return FRAME_HEADER + (kind == FRAME_CHUNKED ? FRAME_CHUNK : 0);
}

/* The sum over a frame, with zero where the sum itself stands.  The bytes of a chunk have one of their own. */
static uint32_t sum_of_frame(const char *data, size_t len)
{
	static const char nothing[4];
	uint32_t sum = frame_sum(0, data, AT_SUM);

	if (data[AT_KIND] == FRAME_CHUNKED && len > frame_body(FRAME_CHUNKED))
		len = frame_body(FRAME_CHUNKED);
	sum = frame_sum(sum, nothing, sizeof(nothing));
	return frame_sum(sum, data + AT_SUM + sizeof(nothing), len - AT_SUM - sizeof(nothing));
}

size_t frame_finish(char *room, const struct frame *frame)
{
	size_t len = frame_body(frame->kind) + frame->body_len;

	memset(room, 0, FRAME_HEADER);
	memcpy(room, magic, sizeof(magic));
	room[AT_KIND] = (char)frame->kind;
	memcpy(room + AT_SESSION, frame->session, FRAME_SESSION);
	put64(room + AT_FIRST, frame->first);
	put32(room + AT_COUNT, frame->count);
	put32(room + AT_INDEX, frame->index);
	put32(room + AT_ENDS, frame->ends);
	if (frame->kind == FRAME_CHUNKED) {
		put64(room + FRAME_HEADER, frame->whole_len);
		put32(room + FRAME_HEADER + 8, frame->sum);
		put32(room + FRAME_HEADER + 12, 0);
	}
	put32(room + AT_SUM, sum_of_frame(room, len));
	return len;
}

/* Whether the body holds exactly the messages that the header announces. */
static bool batch_is_whole(struct frame frame)
{
	uint32_t count = frame.count;
	const char *data;
	size_t len;

	while (frame_next(&frame, &data, &len))
		count--;
	return frame.body_len == 0 && count == 0;
}

enum frame_verdict frame_read(struct frame *frame, const char *data, size_t len)
{
	if (len < FRAME_HEADER || memcmp(data, magic, sizeof(magic)) != 0)
		return FRAME_FOREIGN;
	if (get32(data + AT_SUM) != sum_of_frame(data, len))
		return FRAME_CORRUPT;
	frame->kind = (enum frame_kind)data[AT_KIND];
	memcpy(frame->session, data + AT_SESSION, FRAME_SESSION);
	frame->first = get64(data + AT_FIRST);
	frame->count = get32(data + AT_COUNT);
	frame->index = get32(data + AT_INDEX);
	frame->ends = get32(data + AT_ENDS);
	if (len < frame_body(frame->kind))
		return FRAME_CORRUPT;
	frame->body = data + frame_body(frame->kind);
	frame->body_len = len - frame_body(frame->kind);
	switch (frame->kind) {
	case FRAME_BATCH:
		return frame->count > 0 && batch_is_whole(*frame) ? FRAME_OK : FRAME_CORRUPT;
	case FRAME_CHUNKED:
		frame->whole_len = get64(data + FRAME_HEADER);
		frame->sum = get32(data + FRAME_HEADER + 8);
		return frame->index < frame->count ? FRAME_OK : FRAME_CORRUPT;
	case FRAME_END:
	case FRAME_PROBE:
	case FRAME_LEAVE:
		return frame->body_len == 0 ? FRAME_OK : FRAME_CORRUPT;
	}
	return FRAME_CORRUPT;
}

bool frame_next(struct frame *frame, const char **data, size_t *len)
{
	if (frame->body_len < FRAME_LENGTH)
		return false;
	*len = get32(frame->body);
	if (*len > frame->body_len - FRAME_LENGTH)
		return false;
	*data = frame->body + FRAME_LENGTH;
	frame->body += FRAME_LENGTH + *len;
	frame->body_len -= FRAME_LENGTH + *len;
	return true;
}
