/* What the files of the console's server share: control.c listens, session.c hears, answer.c
 * says, builtins.c are the commands of every session. */
#pragma once

#include "debug/control.h"
#include "debug/framing.h"

#include <uv.h>

enum {
    OSM__ANSWER_MAX_BYTES = 256 * 1024 * 1024, /* of one answer, with all its pages */
    OSM__PATIENCE_MS = 10 * 1000,
    /* That a session has not read: no further request is taken until it does. */
    OSM__UNREAD_MAX_BYTES = 8 * 1024 * 1024,
};

/* An answer of which the peer has not asked for all pages yet. */
struct osm__pages {
    struct osm_buf text;
    size_t at;
    bool rendered; /* for people; else it is JSON */
};

struct osm__session {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } peer;
    struct osm_control *control;
    struct osm__session *next, **prev;
    struct osm_timer *due; /* the first of: idle, a request's time is over, a peer does not read */
    struct osm_framing framing;
    struct osm_control_request *requests; /* that are not answered yet */
    size_t requests_len;
    struct osm_buf begun; /* text: lines that want another one */
    struct osm__pages pages;
    uint64_t heard_ms, moved_ms; /* it said something; it read something */
    uint64_t queued, sent;       /* bytes; sent as of moved_ms */
    long uid, pid;               /* -1: TCP */
    char name[64];               /* of a TCP peer */
    enum osm_role role;
    bool trusted;   /* it has shown the token, or need not */
    bool taking;    /* in osm__session_take */
    bool parsing;   /* a large request is on the pool; no other is taken meanwhile */
    uint64_t waits; /* its request is large, and it is another's turn: its place; 0: it does not */
    bool leaving;   /* no further request; closed when its answers are written */
    bool closing, closed;
    void *kept;
    osm_task_fn *free_kept;
    char chunk[OSM_FRAME_CHUNK_BYTES];
};

struct osm_control_request {
    struct osm_control_request *next, **prev;
    struct osm__session *session;
    json_t *id;
    const struct osm_control_command *command; /* NULL: what was asked for is none */
    char *name, *args;                         /* for the log; args NULL: secret */
    char *line;                                /* text: as it was typed */
    uint64_t start_ms, end_ms;                 /* 0: takes as long as it takes */
    enum osm_role role;                        /* as it was asked */
    osm_task_fn *cancel;
    void *cancel_ud;
    bool large;     /* over OSM_FRAME_MAX_BYTES */
    bool rendered;  /* the answer is text for a person */
    bool abandoned; /* its time was over: what comes now is too late */
};

struct osm_control {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } server;
    struct osm_control_config config;
    struct osm__session *sessions;
    size_t sessions_len;
    struct osm__session *large; /* whose request is over OSM_FRAME_MAX_BYTES; NULL: nobody's */
    uint64_t waits;             /* places given so far to those who wait for that */
    char *path, *token;
    bool closed;
};

extern const struct osm_control_command osm__builtins[];

/* --- session.c --- */
/** Begins a session on a connection that waits to be accepted. */
void osm__session_start(struct osm_control *control);
void osm__session_close(struct osm__session *s);
/** Nothing more comes and all is said: it closes. */
void osm__session_close_if_done(struct osm__session *s);
/** Frees it once it is closed and no request points to it. */
void osm__session_free_if_done(struct osm__session *s);
/** Handles the lines that are there, as long as it may have them. */
void osm__session_take(struct osm__session *s);
/** Something that has a time limit has begun or ended. */
void osm__session_arm(struct osm__session *s);
static inline uint64_t osm__session_unread(const struct osm__session *s)
{
    return uv_stream_get_write_queue_size(&s->peer.stream);
}

/* --- answer.c --- */
/** Says it; @p text is emptied. @p last: the session ends with it. */
void osm__session_send(struct osm__session *s, struct osm_buf *text, bool last);
/** Text: "view> ", or ">> " where a line goes on. */
void osm__session_add_prompt(struct osm_buf *out, const struct osm__session *s);
/** Answers with the next page of what is kept; false: there is none. */
bool osm__session_next_page(struct osm_control_request *request);
void osm__answer_error(struct osm_control_request *request, const struct osm_err *err);
/** Every command leaves one line, whatever has become of it. */
void osm__answer_log(const struct osm_control_request *request, const struct osm_err *err);
/** Of the session's list: nobody waits for it any more. */
void osm__request_take_out(struct osm_control_request *request);

/* --- control.c --- */
void osm__control_free_if_done(struct osm_control *control);
