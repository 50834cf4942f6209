/* SPDX-License-Identifier: MIT */
/*
 * The parts of the runner, from the bottom up:
 *
 *   text      sizes, times and rates as text
 *   machine   where and when
 *   cpus      which CPUs there are, and pinning
 *   worker    what the two processes of a measurement do
 *   gather    the same for many pipes with one receiver
 *   memory    how much memory these pipes take
 *   histogram, syscalls   how long single messages take, and how many system calls
 *   process   starts and ends them, and finds which failed first
 *   pair      starts both, watches them and collects their results
 *   crowd     the same with many processes at each side of one pipe, or many pairs
 *   condition busy programs beside them, a limit of their CPU time, and their priority
 *   results   every measurement of a run, and the ratios between them
 *   plan      the interleaved order in which the measurements are made
 *   report, save   tables, and the result file
 *   options, main
 */
#ifndef PERF_BENCH_H
#define PERF_BENCH_H

#include "../transport.h"
#include "histogram.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/utsname.h>

#define MAX_TRANSPORTS 40
#define MAX_SIZES      32
#define MAX_ROUNDS     99
#define MAX_CROWD      32 /* processes at a side */
#define MAX_COUNTS     8
#define MAX_BUSY       8
#define MAX_CONDITIONS (MAX_COUNTS * MAX_COUNTS * MAX_COUNTS)

enum mode {
	MODE_TRIP,
	MODE_STREAM,
	MODE_ASLEEP,
	MODE_IDLE,
	MODE_RATE,
	MODE_MANY,  /* many processes at each side of one pipe */
	MODE_PAIRS, /* many pipes, each with a process at either side */
	/* Many pipes with one receiver. */
	MODE_SET_ONE,  /* round trips, always through the same pipe */
	MODE_SET_ANY,  /* through another pipe each time */
	MODE_SET_WAKE, /* the same, after the receiver has fallen asleep */
	MODE_SET_BUSY, /* all pipes are busy */
	MODE_SET_IDLE, /* no pipe is */
	MODES
};
enum placement { TWO_CORES, ONE_CORE, PLACEMENTS };

/* How the processes that are measured are scheduled; in a crowd the lead is all senders, the echo all receivers. */
enum priority {
	PRIORITY_NORMAL,
	PRIORITY_FIFO_LEAD, /* the lead is SCHED_FIFO, the echo is normal */
	PRIORITY_FIFO_ECHO,
	PRIORITY_FIFO_BOTH,
	PRIORITY_NICE_LEAD, /* the lead is at nice 19, the echo at nice 0 */
	PRIORITY_NICE_ECHO,
	PRIORITIES
};

/* What else goes on while something is measured. */
struct condition {
	int busy;     /* programs that compute on each CPU of the pair */
	int throttle; /* percent of one CPU that all processes measured may use together; 0: no limit */
	enum priority priority;
};

/* One measurement: what the pair of processes is told. */
struct job {
	const struct transport *transport;
	enum mode mode;
	enum placement placement;
	int cpu[2]; /* by enum side */
	struct shape shape;
	int senders; /* of a crowd: processes */
	int receivers;
	int rate;     /* MODE_RATE: messages a second */
	bool is_free; /* no other programs, limit or priority, so that the sender's CPU is its own */
	uint64_t duration_ns;
	uint64_t grace_ns;           /* how much longer it may take before it counts as hanging */
	uint64_t syscalls_id;        /* to count system calls, and nothing else; 0: not */
	struct histogram *histogram; /* of the times of single messages, to be added to; NULL: none */
	char *reason;                /* why it failed: of REASON_MAX bytes, empty before */
};

/*
 * The result of a measurement.  Some fields have no meaning in some modes.  In the
 * idle case a "message" is the whole wait.
 */
struct sample {
	bool valid;
	double ns; /* per message; in a round trip per round trip; rate, asleep: median latency */
	double latency[LATENCIES]; /* of single messages or round trips: by enum latency */
	double cpu_ns;             /* user and system time of both processes per message */
	double recv_cpu_ns;        /* the same of the receiver alone */
	double switches;           /* context switches of both processes per message */
	double recv_switches;      /* of the receiver alone */
	double settled_switches;   /* idle: those of the receiver after it had time to settle */
	double settled_ns;         /* idle: how long that was */
	double syscalls;           /* of both processes per message; only in a round for that */
	double throttled;          /* time that the limit made processes stand still, per elapsed time */
	double send_share[3];      /* many: the least, median and most of a process in 200 ms; 1 is fair */
	double recv_share[3];
	double setup_ns;      /* sets, per pipe: to meet at an address and add it, */
	double memory;        /* bytes of both processes when it is idle, */
	double kernel_memory; /* and of the kernel */
};

static inline bool needs_real_time(enum priority priority)
{
	return priority >= PRIORITY_FIFO_LEAD && priority <= PRIORITY_FIFO_BOTH;
}

static inline bool is_same_condition(const struct condition *a, const struct condition *b)
{
	return a->busy == b->busy && a->throttle == b->throttle && a->priority == b->priority;
}

static inline bool is_crowd(enum mode mode)
{
	return mode == MODE_MANY || mode == MODE_PAIRS;
}

struct spread {
	int count; /* of rounds that had both; 0: nothing to say */
	double min;
	double median;
	double max;
};

/* text.c; each writes into buf and returns it. */
#define TEXT_MAX 32
char *text_size(char buf[TEXT_MAX], size_t size);
char *text_time(char buf[TEXT_MAX], double ns);
char *text_count(char buf[TEXT_MAX], double count);
#define SPREAD_MAX 48
char *text_spread(char buf[SPREAD_MAX], struct spread spread);
#define CONDITION_MAX 128
char *text_condition(char buf[CONDITION_MAX], const struct condition *condition);
#define JOB_MAX 128
/* What is measured: the transport, the test and its numbers. */
char *text_job(char buf[JOB_MAX], const struct job *job);
const char *mode_name(enum mode mode);
const char *placement_name(enum placement placement);
const char *priority_name(enum priority priority);

/* machine.c */
struct machine {
	struct utsname system;
	uint64_t id; /* the same in each run on this machine */
	char cpu[128];
	char libc[32];
	char governor[32]; /* of the clock frequency */
	char clock[32];    /* where the kernel's time comes from */
	char date[32];     /* UTC, when the run began */
	double load;       /* average then, over a minute */
};
void machine_find(struct machine *machine);

/* cpus.c */
struct cpus {
	int count;     /* that this process may use */
	int pair[2];   /* of two cores; on one core both sides run on the second */
	bool siblings; /* the two are threads of one core, because there is no other core */
};
int cpus_find(struct cpus *cpus, const int wanted[2]);
int cpus_pin(int cpu);
uint64_t clock_ns(void);

/* What the CPUs of the pair have done so far. */
struct load {
	uint64_t at_ns;
	uint64_t busy_ns;   /* for all programs */
	uint64_t own_ns;    /* for the processes of this program that have ended */
	uint64_t stolen_ns; /* by the host of a virtual machine */
	int capacity;       /* how many CPUs that is */
};
void cpus_load(const struct cpus *cpus, struct load *load);

/* process.c */
#define WORKER_TEXT 96
#define REASON_MAX  (WORKER_TEXT + 32)
/* How long the others get to end too, when a process has failed. */
#define TELL_NS UINT64_C(1000000000)

/* How a process of a measurement has ended, in memory that it shares with the runner. The process writes it. */
struct outcome {
	bool is_done;           /* it came to its end, without an error */
	int error;              /* 0, or the first error, as a negative errno */
	uint64_t at_ns;         /* when that was; 0: there was none */
	char text[WORKER_TEXT]; /* what went wrong */
};

/* Notes the first error only, because those after it are consequences; both return err. */
__attribute__((format(printf, 3, 4))) int outcome_fail(struct outcome *outcome, int err, const char *format,
						       ...);
int outcome_error(struct outcome *outcome, int err, const char *what);

struct process {
	pid_t pid; /* 0: not started */
	bool is_running;
	int status; /* of waitpid */
	struct outcome *outcome;
	char name[24]; /* for messages */
};

/* As fork(2), but the child dies with the runner, and signals are as usual in it. */
pid_t worker_fork(void);
/*
 * Forks a process that is measured, which the limit of CPU time and the priority are for.
 * Returns 0 in the new process, 1 in the runner, and a negative errno if there is none.
 */
int process_start(struct process *process, enum side side, struct outcome *outcome);
/* Notes which have ended; returns how many still run. */
int processes_reap(struct process *processes, int count);
/* Whether one of those that have ended has failed. */
bool processes_failed(const struct process *processes, int count);
/* Waits until the others have ended too, or some time; reports all that have failed, and first the one that failed first. Returns its error. */
int processes_tell(const struct job *job, struct process *processes, int count);
/* Kills those that still run, and waits for them. */
void processes_stop(struct process *processes, int count);
/* Prints why a measurement failed. The first of these texts is kept as its reason. */
void job_complain(const struct job *job, const char *text);
int job_fail(const struct job *job, int err, const char *what);

/* worker.c */
enum { USAGE_BEGIN, USAGE_END };

struct usage {
	uint64_t cpu_ns;
	uint64_t switches;
	uint64_t throttled_ns; /* of all processes */
	uint64_t syscalls;
};

/* In memory that both processes and the runner share; each side writes its own. */
struct findings {
	struct outcome outcome;
	pid_t pid;
	struct usage usage[2];
	uint64_t messages;
	uint64_t elapsed_ns;
	uint64_t sending_ns; /* time inside of send, when the sender spins until a message is due */
	uint64_t settled_switches;
	uint64_t settled_ns;
	uint64_t setup_ns;
	uint64_t memory[2];
	uint64_t kernel_memory[2];
	struct histogram histogram;
};

struct shared {
	struct findings side[2];
};

/* Plays one side to its end; returns the exit status of its process. */
int worker_run(const struct job *job, void *state, enum side side, struct shared *shared);
void usage_take(struct usage *usage);

/* gather.c */
int gather_run(const struct job *job, void *state, enum side side, struct shared *shared);

/* syscalls.c; 0 where they cannot be counted */
uint64_t syscalls_find(void);
int syscalls_count(uint64_t id);
uint64_t syscalls_so_far(void);

/* memory.c; in bytes, 0 where the kernel does not tell */
uint64_t memory_of_self(void);
uint64_t memory_of_kernel(void);

/* pair.c; -EOPNOTSUPP: the transport cannot do this.  Other errors have been reported. */
int pair_run(const struct job *job, struct sample *sample);

/* crowd.c; as pair_run */
int crowd_run(const struct job *job, struct sample *sample);

/* condition.c */
int condition_enter(const struct condition *condition, const struct cpus *cpus);
void condition_leave(void);
/* In a process that is to be measured, before it does anything. */
int condition_join(enum side side);
/* How long the limit has made the measured processes stand still, so far. */
uint64_t condition_throttled_ns(void);

/* options.c */
struct options {
	const struct transport *transports[MAX_TRANSPORTS + 1];
	int transport_count;
	size_t sizes[MAX_SIZES];
	int size_count;
	size_t ring;
	int rounds;
	uint64_t grace_ns;         /* how much longer one may take before it counts as hanging */
	uint64_t duration_ns;      /* of one measurement */
	uint64_t rate_duration_ns; /* of one measurement at the low rate */
	uint64_t idle_duration_ns;
	bool modes[MODES];
	bool placements[PLACEMENTS];
	int pipes[MAX_COUNTS]; /* into one receiver */
	int pipe_count;
	int rates[MAX_COUNTS]; /* messages a second */
	int rate_count;
	int busy[MAX_COUNTS];
	int busy_count;
	int throttle[MAX_COUNTS];
	int throttle_count;
	enum priority priority[MAX_COUNTS];
	int priority_count;
	bool time_given; /* so it is not for us to say that it is too short */
	bool both;       /* the slow cases have both placements also on free CPUs */
	bool extra;      /* those that run in the exchanges of two only when asked for */
	int cpu[2];      /* -1: to be chosen */
	bool check;      /* measures nothing */
	const char *json;
	bool progress;
};

/* 0: go on; 1: there is nothing to measure, exit with 0; -EINVAL: a message was printed, exit with 2. */
int options_parse(struct options *options, int argc, char **argv);

/* results.c */
struct cell {
	struct condition condition;
	enum mode mode;
	enum placement placement;
	size_t len;
	int senders; /* of a crowd */
	int receivers;
	unsigned pipes; /* MODE_SET_* */
	int rate;       /* MODE_RATE */
	int rounds;
	struct sample (*samples)[MAX_TRANSPORTS];     /* [round][transport] */
	struct histogram *histograms[MAX_TRANSPORTS]; /* over all rounds; NULL: none */
	double syscalls[MAX_TRANSPORTS];              /* per message; negative: not known */
	bool left_out[MAX_TRANSPORTS]; /* some rounds, or all, because of earlier failures of the transport */
};

/* After this many a transport is left out. */
#define FAILURES_MOST 2

/* A measurement that failed. */
struct failure {
	const struct cell *cell;
	int transport;
	int round; /* the number of rounds: the round that counts system calls */
	char what[JOB_MAX];
	char reason[REASON_MAX];
};

struct results {
	const struct options *options;
	struct machine machine;
	struct cpus cpus;
	struct condition conditions[MAX_CONDITIONS];
	int condition_count;
	bool throttle_refused; /* conditions with a limit were left out */
	bool priority_refused; /* conditions with a real-time priority were left out */
	struct cell *cells;
	int cell_count;
	struct failure failures[MAX_TRANSPORTS * FAILURES_MOST];
	int failure_count;
	int failed[MAX_TRANSPORTS]; /* how many of these are of each transport */
	bool complete;              /* everything was tried, and nothing failed */
	uint64_t syscalls_id;       /* 0: they cannot be counted here */
	uint64_t elapsed_ns;
	double others;     /* part of the CPUs' time that went to other programs */
	double stolen;     /* and to the host's other guests */
	unsigned left_out; /* that many pipes into one receiver were more than there may be descriptors */
};

typedef double (*measure)(const struct sample *);
double sample_ns(const struct sample *sample);
double sample_cpu(const struct sample *sample);
double sample_recv_cpu(const struct sample *sample);
double sample_switches(const struct sample *sample);
double sample_recv_switches(const struct sample *sample);
double sample_settled_switches(const struct sample *sample);
double sample_p99(const struct sample *sample);
double sample_throttled(const struct sample *sample);
double sample_setup(const struct sample *sample);
double sample_memory(const struct sample *sample);
double sample_kernel_memory(const struct sample *sample);

int results_init(struct results *results, const struct options *options, const struct cpus *cpus);
void results_free(struct results *results);
/* The spread over the rounds of one transport's figure. */
struct spread results_value(const struct cell *cell, int transport, measure what);
/* The spread over the rounds of one transport's figure divided by another's of the same round. */
struct spread results_ratio(const struct cell *cell, int over, int under, measure what);
/* The spread of one transport's figure in a cell divided by that in another, of the same round. */
struct spread results_growth(const struct cell *from, const struct cell *to, int transport, measure what);
/* The transport that the ratios of this cell refer to, or -1 if it does not take part. */
int results_base(const struct results *results, const struct cell *cell);
/* The transport that is the floor of this cell, or -1. */
int results_floor(const struct results *results, const struct cell *cell);

/* What a table is made of. */
struct view {
	const struct results *results;
	struct condition condition;
	enum placement placement;
};
bool view_has(const struct view *view, const struct cell *cell, enum mode mode);

/* plan.c: fills in the results; a negative errno when it cannot go on. */
int plan_run(struct results *results);

/* report.c, report_latency.c, report_many.c, save.c */
void report_head(const struct results *results);
void report_tables(const struct results *results);
void report_latency(const struct view *view);
void report_many(const struct view *view);
int save_json(const struct results *results, const char *path);
#endif
