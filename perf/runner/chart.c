/* SPDX-License-Identifier: MIT */
/*
 * The picture: a panel for each test and placement, the sizes from left to
 * right, how many times as fast as the Unix pipe from bottom to top, whiskers
 * from the worst to the best round.
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/utsname.h>

#define PANEL_WIDTH   500
#define PANEL_HEIGHT  300
#define MARGIN_LEFT   56
#define MARGIN_RIGHT  16
#define MARGIN_TOP    34
#define MARGIN_BOTTOM 40
#define HEAD          78
#define PLOT_WIDTH    (PANEL_WIDTH - MARGIN_LEFT - MARGIN_RIGHT)
#define PLOT_HEIGHT   (PANEL_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM)

struct panel {
	FILE *file;
	const struct results *results;
	enum mode mode;
	enum placement placement;
	const struct cell *cells[MAX_SIZES];
	int cell_count;
	double left; /* of the plot */
	double top;
	double low; /* logarithms of the ratios at the bottom and at the top */
	double high;
};

/* Colours that people who see colours differently can tell apart. */
static const char *const colours[] = { "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9" };
#define COLOURS ((int)(sizeof(colours) / sizeof(colours[0])))

static bool is_floor(const struct transport *transport)
{
	return transport->flags & (TRANSPORT_FLOOR_TRIP | TRANSPORT_FLOOR_STREAM);
}

static const char *colour_of(const struct results *results, int which)
{
	return is_floor(results->options->transports[which]) ? "#8a8a8a" : colours[(which - 1) % COLOURS];
}

/* The first floor is dashed, the second dotted. */
static const char *dash_of(const struct results *results, int which)
{
	int floors = 0;

	if (!is_floor(results->options->transports[which]))
		return "none";
	for (int i = 0; i < which; i++)
		floors += is_floor(results->options->transports[i]);
	return floors ? "2 3" : "7 4";
}

static struct spread speed(const struct panel *p, int cell, int which)
{
	return results_ratio(p->cells[cell], 0, which, sample_ns);
}

static double x_of(const struct panel *p, int cell)
{
	return p->left + PLOT_WIDTH * (cell + 0.5) / p->cell_count;
}

static double y_of(const struct panel *p, double ratio)
{
	return p->top + PLOT_HEIGHT * (p->high - log10(ratio)) / (p->high - p->low);
}

static void find_range(struct panel *p)
{
	double low = 0.9, high = 1.1;

	for (int i = 0; i < p->cell_count; i++) {
		for (int which = 1; which < p->results->options->transport_count; which++) {
			struct spread s = speed(p, i, which);

			if (!s.count)
				continue;
			low = fmin(low, s.min);
			high = fmax(high, s.max);
		}
	}
	p->low = log10(low) - 0.05;
	p->high = log10(high) + 0.05;
}

static void label_size(char *buf, size_t max, size_t size)
{
	if (size >= 1 << 20 && size % (1 << 20) == 0)
		snprintf(buf, max, "%zuM", size >> 20);
	else if (size >= 1024 && size % 1024 == 0)
		snprintf(buf, max, "%zuk", size >> 10);
	else
		snprintf(buf, max, "%zu", size);
}

static void draw_line(const struct panel *p, double ratio)
{
	bool one = fabs(ratio - 1) < 1e-6;
	double y = y_of(p, ratio);

	fprintf(p->file, "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' stroke='%s' stroke-width='%s'/>\n",
		p->left, y, p->left + PLOT_WIDTH, y, one ? "#202020" : "#dedede", one ? "1.4" : "1");
	fprintf(p->file, "<text x='%.1f' y='%.1f' text-anchor='end' class='tick'>%g\u00d7</text>\n",
		p->left - 6, y + 4, ratio);
}

/* Lines at round ratios, more of them where less of a decade is visible; that at 1 is the pipe itself. */
static void draw_grid(const struct panel *p)
{
	static const double steps[] = { 1, 2, 5, 1.5, 3, 7 };
	int count = p->high - p->low < 1.1 ? 6 : 3;

	for (int decade = -4; decade <= 6; decade++) {
		for (int i = 0; i < count; i++) {
			double ratio = steps[i] * pow(10, decade);

			if (log10(ratio) > p->low && log10(ratio) < p->high)
				draw_line(p, ratio);
		}
	}
	for (int i = 0; i < p->cell_count; i++) {
		char size[TEXT_MAX];

		label_size(size, sizeof(size), p->cells[i]->len);
		fprintf(p->file, "<text x='%.1f' y='%.1f' text-anchor='middle' class='tick'>%s</text>\n",
			x_of(p, i), p->top + PLOT_HEIGHT + 16, size);
	}
}

static void draw_marks(const struct panel *p, int which, double shift, const char *colour)
{
	for (int i = 0; i < p->cell_count; i++) {
		struct spread s = speed(p, i, which);
		double x = x_of(p, i) + shift;

		if (!s.count)
			continue;
		fprintf(p->file,
			"<path d='M%.1f %.1fV%.1fM%.1f %.1fh6M%.1f %.1fh6' stroke='%s' fill='none'/>\n", x,
			y_of(p, s.min), y_of(p, s.max), x - 3, y_of(p, s.min), x - 3, y_of(p, s.max), colour);
		fprintf(p->file, "<circle cx='%.1f' cy='%.1f' r='3' fill='%s'/>\n", x, y_of(p, s.median),
			colour);
	}
}

static void draw_transport(const struct panel *p, int which)
{
	int count = p->results->options->transport_count;
	double shift = (which - count / 2.0) * fmin(4, 0.5 * PLOT_WIDTH / p->cell_count / count);
	const char *colour = colour_of(p->results, which);
	bool first = true;

	fprintf(p->file,
		"<polyline fill='none' stroke='%s' stroke-width='1.8' stroke-dasharray='%s' points='", colour,
		dash_of(p->results, which));
	for (int i = 0; i < p->cell_count; i++) {
		struct spread s = speed(p, i, which);

		if (!s.count)
			continue;
		fprintf(p->file, "%s%.1f,%.1f", first ? "" : " ", x_of(p, i) + shift, y_of(p, s.median));
		first = false;
	}
	fprintf(p->file, "'/>\n");
	draw_marks(p, which, shift, colour);
}

static void draw_panel(struct panel *p)
{
	find_range(p);
	fprintf(p->file, "<text x='%.1f' y='%.1f' class='title'>%s, %s</text>\n", p->left, p->top - 12,
		p->mode == MODE_TRIP ? "Round trips" : "Streams",
		p->placement == TWO_CORES ? "two cores" : "one core");
	draw_grid(p);
	for (int which = 1; which < p->results->options->transport_count; which++)
		draw_transport(p, which);
	fprintf(p->file,
		"<text x='%.1f' y='%.1f' text-anchor='middle' class='tick'>message size, bytes</text>\n",
		p->left + PLOT_WIDTH / 2.0, p->top + PLOT_HEIGHT + 33);
}

static int find_panels(const struct results *results, struct panel panels[4])
{
	int count = 0;

	for (int k = 0; k < 2 * PLACEMENTS; k++) {
		struct panel *p = &panels[count];

		*p = (struct panel){ .results = results,
				     .mode = k % 2 ? MODE_STREAM : MODE_TRIP,
				     .placement = (enum placement)(k / 2) };
		for (int i = 0; i < results->cell_count; i++) {
			const struct cell *cell = &results->cells[i];

			if (cell->mode == p->mode && cell->placement == p->placement)
				p->cells[p->cell_count++] = cell;
		}
		count += p->cell_count > 0;
	}
	return count;
}

static bool is_drawn(const struct results *results, int which)
{
	for (int i = 0; i < results->cell_count; i++) {
		const struct cell *cell = &results->cells[i];

		if ((cell->mode == MODE_TRIP || cell->mode == MODE_STREAM) &&
		    results_value(cell, which, sample_ns).count)
			return true;
	}
	return false;
}

static void draw_legend(FILE *file, const struct results *results)
{
	double x = MARGIN_LEFT;

	for (int i = 0; i < results->options->transport_count; i++) {
		const struct transport *transport = results->options->transports[i];

		if (!is_drawn(results, i))
			continue;
		fprintf(file,
			"<line x1='%.1f' y1='62' x2='%.1f' y2='62' stroke='%s' stroke-width='2' "
			"stroke-dasharray='%s'/>\n",
			x, x + 22, i ? colour_of(results, i) : "#202020", i ? dash_of(results, i) : "none");
		fprintf(file, "<text x='%.1f' y='66' class='tick'>%s%s</text>\n", x + 27, transport->name,
			is_floor(transport) ? " (floor)" : "");
		x += 46 + 7.0 * (double)strlen(transport->name) + (is_floor(transport) ? 42 : 0);
	}
}

static void draw_head(FILE *file, const struct results *results, int width, int height)
{
	const struct options *options = results->options;
	char size[TEXT_MAX], time[TEXT_MAX];
	struct utsname uts;

	uname(&uts);
	fprintf(file,
		"<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' viewBox='0 0 %d %d'>\n"
		"<style>text{font-family:sans-serif;fill:#202020}.head{font-size:17px;font-weight:bold}"
		".title{font-size:14px;font-weight:bold}.tick{font-size:11.5px}</style>\n"
		"<rect width='100%%' height='100%%' fill='#ffffff'/>\n",
		width, height, width, height);
	fprintf(file, "<text x='%d' y='26' class='head'>Speed against the Unix pipe</text>\n", MARGIN_LEFT);
	fprintf(file,
		"<text x='%d' y='45' class='tick'>median of %d interleaved rounds of %s, whiskers: "
		"smallest and largest; buffer %s; Linux %.40s, %d CPUs</text>\n",
		MARGIN_LEFT, options->rounds, text_time(time, (double)options->duration_ns),
		text_size(size, options->ring), uts.release, results->cpus.count);
}

int chart_save(const struct results *results, const char *path)
{
	struct panel panels[2 * PLACEMENTS + 1];
	int count = find_panels(results, panels);
	int columns = count > 1 ? 2 : 1;
	FILE *file = save_open(path);

	if (!file)
		return -EIO;
	draw_head(file, results, 2 * PANEL_WIDTH, HEAD + (count + columns - 1) / columns * PANEL_HEIGHT);
	draw_legend(file, results);
	for (int i = 0; i < count; i++) {
		panels[i].file = file;
		panels[i].left = i % columns * PANEL_WIDTH + MARGIN_LEFT;
		panels[i].top = HEAD + i / columns * PANEL_HEIGHT + MARGIN_TOP;
		draw_panel(&panels[i]);
	}
	fputs("</svg>\n", file);
	return save_close(file, path);
}
