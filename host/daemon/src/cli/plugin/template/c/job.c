// The job type `{name}`: adds up numbers, two a step.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sdk/task.h"

// The running job; one instance of the component runs one. `checkpoint` must write all of it, and `restore` read it.
static double *numbers;
static uint64_t count, at;
static double sum;

// A real step takes 10 to 500 ms.
enum { NUMBERS_PER_STEP = 2 };

// The host frees what it is given, so texts are copies.
static void text(task_string_t *ret, const char *words) { task_string_dup(ret, words); }

// Answers false, which says that the call failed.
static bool failure(exports_waymark_task_lifecycle_failure_t *err, uint8_t kind, const char *words) {
  err->tag = kind;
  text(&err->val.permanent, words);
  return false;
}

// Reads the numbers of the list that begins after `"key": [`. The host has checked the input against the schema.
static bool read_numbers(const char *json, const char *key) {
  const char *from = strstr(json, key);
  from = from == NULL ? NULL : strchr(from, '[');
  if (from == NULL) return false;
  free(numbers);
  numbers = malloc((strlen(from) / 2 + 1) * sizeof *numbers);
  if (numbers == NULL) return false;
  count = 0;
  from += 1;
  for (char *end; ; from = end) {
    from += strspn(from, " \t\r\n,");
    if (*from == ']') return true;
    numbers[count++] = strtod(from, &end);
    if (end == from) return false;
  }
}

// Reads one number after `"key":`.
static double read_number(const char *json, const char *key) {
  const char *from = strstr(json, key);
  from = from == NULL ? NULL : strchr(from, ':');
  return from == NULL ? 0 : strtod(from + 1, NULL);
}

// What the host gives is not ended by a zero.
static char *ended(const uint8_t *bytes, size_t length) {
  char *copy = malloc(length + 1);
  if (copy == NULL) return NULL;
  memcpy(copy, bytes, length);
  copy[length] = 0;
  return copy;
}

void exports_waymark_task_lifecycle_describe(exports_waymark_task_lifecycle_descriptor_t *ret) {
  text(&ret->name, "{name}");
  text(&ret->version, "0.1.0");
  text(&ret->description, "Adds up numbers.");
  text(&ret->input_schema,
       "{\"type\": \"object\", \"properties\": {\"numbers\": {\"type\": \"array\", \"items\": {\"type\": \"number\"}}},"
       " \"required\": [\"numbers\"], \"additionalProperties\": false}");
  text(&ret->result_schema,
       "{\"type\": \"object\", \"properties\": {\"sum\": {\"type\": \"number\"}}, \"required\": [\"sum\"]}");
  ret->state_version = 1;
  ret->oldest_state_version = 1;
}

bool exports_waymark_task_lifecycle_start(exports_waymark_task_lifecycle_json_t *input,
                                          exports_waymark_task_lifecycle_failure_t *err) {
  char *json = ended(input->ptr, input->len);
  bool read = json != NULL && read_numbers(json, "\"numbers\"");
  free(json);
  return read || failure(err, WAYMARK_TASK_TYPES_FAILURE_INVALID_INPUT, "numbers: a list of numbers is expected");
}

bool exports_waymark_task_lifecycle_step(exports_waymark_task_lifecycle_outcome_t *ret,
                                         exports_waymark_task_lifecycle_failure_t *err) {
  (void)err;
  char line[128];
  for (int done = 0; done < NUMBERS_PER_STEP && at < count; done++, at++) {
    sum += numbers[at];
    snprintf(line, sizeof line, "{\"number\": %.17g, \"sum\": %.17g}", numbers[at], sum);
    waymark_task_job_json_t record;
    task_string_set(&record, line);
    waymark_task_job_emit(&record);
  }
  memset(ret, 0, sizeof *ret);
  if (at < count) {
    ret->tag = WAYMARK_TASK_TYPES_OUTCOME_PROGRESSED;
    ret->val.progressed.current = at;
    ret->val.progressed.total.is_some = true;
    ret->val.progressed.total.val = count;
    return true;
  }
  snprintf(line, sizeof line, "{\"sum\": %.17g}", sum);
  ret->tag = WAYMARK_TASK_TYPES_OUTCOME_COMPLETED;
  text(&ret->val.completed, line);
  return true;
}

bool exports_waymark_task_lifecycle_checkpoint(exports_waymark_task_lifecycle_snapshot_t *ret,
                                               exports_waymark_task_lifecycle_failure_t *err) {
  // 17 digits and what stands around them, for each number.
  size_t size = 128 + count * 32, used;
  char *json = malloc(size);
  if (json == NULL) return failure(err, WAYMARK_TASK_TYPES_FAILURE_TRANSIENT, "no memory for the checkpoint");
  used = (size_t)snprintf(json, size, "{\"at\": %llu, \"sum\": %.17g, \"numbers\": [", (unsigned long long)at, sum);
  for (uint64_t index = 0; index < count; index++) {
    used += (size_t)snprintf(json + used, size - used, "%s%.17g", index == 0 ? "" : ", ", numbers[index]);
  }
  used += (size_t)snprintf(json + used, size - used, "]}");
  text(&ret->mime_type, "application/json");
  ret->state_version = 1;
  ret->state.ptr = (uint8_t *)json;
  ret->state.len = used;
  return true;
}

bool exports_waymark_task_lifecycle_restore(exports_waymark_task_lifecycle_snapshot_t *snapshot,
                                            exports_waymark_task_lifecycle_failure_t *err) {
  char *json = ended(snapshot->state.ptr, snapshot->state.len);
  bool read = json != NULL && read_numbers(json, "\"numbers\"");
  if (read) {
    at = (uint64_t)read_number(json, "\"at\"");
    sum = read_number(json, "\"sum\"");
  }
  free(json);
  return read || failure(err, WAYMARK_TASK_TYPES_FAILURE_PERMANENT, "the checkpoint cannot be read");
}
