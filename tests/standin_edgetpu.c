/* A stand-in for libedgetpu: a TFLite delegate that claims the operator of compiled models and, instead of running it,
 * gives recorded outputs. It behaves as the file named in STANDIN_EDGETPU says, which is read at each load:
 * lines of "key value", see `struct script`.
 *
 * The declarations follow the C interface of TFLite 2.14 to 2.19 and LiteRT 2.3 (tensorflow/lite/core/c/common.h, now
 * tflite/core/c/common.h in google-ai-edge/LiteRT), whose structs only ever get new fields at the end; only what is
 * used here has its real type. What it claims and says is as in libedgetpu's tflite/edgetpu_delegate_for_custom_op.cc,
 * tflite/custom_op_direct.cc and driver/package_registry.cc. */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

typedef struct { int size; int data[]; } TfLiteIntArray;
typedef struct {
  int type;
  char *data;
  TfLiteIntArray *dims;
  struct { float scale; int32_t zero_point; } params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  void *delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  struct { int type; void *params; } quantization;
  void *sparsity;
  const TfLiteIntArray *dims_signature;
} TfLiteTensor;
typedef struct { TfLiteIntArray *inputs, *outputs; /* more follows */ } TfLiteNode;
struct TfLiteDelegate;
struct TfLiteContext;
typedef struct {
  void *(*init)(struct TfLiteContext *, const char *, size_t);
  void (*free)(struct TfLiteContext *, void *);
  int (*prepare)(struct TfLiteContext *, TfLiteNode *);
  int (*invoke)(struct TfLiteContext *, TfLiteNode *);
  const char *(*profiling_string)(const struct TfLiteContext *, const TfLiteNode *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *later_fields[8]; /* of newer versions; zero means none */
} TfLiteRegistration;
typedef struct TfLiteContext {
  size_t tensors_size;
  int (*GetExecutionPlan)(struct TfLiteContext *, TfLiteIntArray **);
  TfLiteTensor *tensors;
  void *impl;
  void *ResizeTensor;
  void (*ReportError)(struct TfLiteContext *, const char *, ...);
  void *AddTensors;
  int (*GetNodeAndRegistration)(struct TfLiteContext *, int, TfLiteNode **, TfLiteRegistration **);
  int (*ReplaceNodeSubsetsWithDelegateKernels)(struct TfLiteContext *, TfLiteRegistration, const TfLiteIntArray *,
                                               struct TfLiteDelegate *);
} TfLiteContext;
typedef struct TfLiteDelegate {
  void *data;
  int (*Prepare)(TfLiteContext *, struct TfLiteDelegate *);
  void *CopyFromBufferHandle, *CopyToBufferHandle, *FreeBufferHandle;
  int64_t flags;
  void *later_fields[8];
} TfLiteDelegate;
enum { kTfLiteDelegateFlagsAllowDynamicTensors = 1 };

static struct script {
  char outputs[512]; /* a file: the outputs of the operator, one after the other */
  char present[512]; /* a file: the device is there while the file is */
  char loads[512];   /* a file: a line with the device that was asked for is added at each load */
  char log[512];     /* what is written to standard error before it aborts */
  long invoke_ms, slower_ms, load_ms; /* time of an invoke; what each takes more than the one before; time of a load */
  long abort_at, hang_at, fail_at;    /* at this invoke since the load, counted from 1 */
  long no_device;     /* none is found */
  long crash_at_load; /* dies as a library that was built for another runtime */
  long needs_runtime; /* refuses the model as one that is compiled for a newer library */
} script;
static char *recorded;
static size_t recorded_bytes;
static long invokes;

static void sleep_ms(long ms) {
  struct timespec left = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&left, &left)) {
  }
}

/* The test is wrong, not the device. */
static void give_up(const char *what) {
  fprintf(stderr, "standin_edgetpu.c: %s\n", what);
  exit(99);
}

static void read_script(void) {
  memset(&script, 0, sizeof script);
  const char *path = getenv("STANDIN_EDGETPU");
  FILE *file = path ? fopen(path, "r") : NULL;
  if (!file) give_up("STANDIN_EDGETPU names no file that can be read");
  const struct { const char *key; char *text; long *number; } keys[] = {
      {"outputs", script.outputs, 0},           {"present", script.present, 0},
      {"loads", script.loads, 0},               {"log", script.log, 0},
      {"invoke_ms", 0, &script.invoke_ms},      {"slower_ms", 0, &script.slower_ms},
      {"load_ms", 0, &script.load_ms},          {"abort_at", 0, &script.abort_at},
      {"fail_at", 0, &script.fail_at},
      {"hang_at", 0, &script.hang_at},          {"no_device", 0, &script.no_device},
      {"crash_at_load", 0, &script.crash_at_load}, {"needs_runtime", 0, &script.needs_runtime}};
  char line[600];
  while (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    char *value = strchr(line, ' ');
    if (!value) continue;
    *value++ = 0;
    bool known = false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
      if (strcmp(line, keys[i].key)) continue;
      known = true;
      if (keys[i].text) snprintf(keys[i].text, 512, "%s", value);
      else *keys[i].number = atol(value);
    }
    if (!known) give_up(line);
  }
  fclose(file);
}

static void die(void) {
  if (*script.log) fprintf(stderr, "%s\n", script.log);
  abort();
}

static bool device_is_there(void) { return !*script.present || !access(script.present, F_OK); }

static int prepare_node(TfLiteContext *context, TfLiteNode *node) {
  (void)node;
  if (script.needs_runtime) {
    context->ReportError(context,
                         "Failed to prepare for TPU. %s", "Failed precondition: Package requires runtime version (14), "
                         "which is newer than this runtime version (13).");
    return 1;
  }
  return 0;
}

static int invoke_node(TfLiteContext *context, TfLiteNode *node) {
  invokes++;
  sleep_ms(script.invoke_ms + (invokes - 1) * script.slower_ms);
  if (invokes == script.abort_at || !device_is_there()) die();
  if (invokes == script.fail_at) {
    context->ReportError(context, "Failed to execute request. Deadline exceeded");
    return 1;
  }
  if (invokes == script.hang_at) {
    signal(SIGTERM, SIG_IGN);
    for (;;) pause();
  }
  size_t given = 0;
  for (int i = 0; i < node->outputs->size; i++) {
    TfLiteTensor *tensor = &context->tensors[node->outputs->data[i]];
    if (!recorded) {
      memset(tensor->data, 0, tensor->bytes);
      continue;
    }
    if (given + tensor->bytes > recorded_bytes) give_up("the recorded outputs are too short for the model");
    memcpy(tensor->data, recorded + given, tensor->bytes);
    given += tensor->bytes;
  }
  return 0;
}

static int prepare(TfLiteContext *context, TfLiteDelegate *delegate) {
  TfLiteIntArray *plan;
  if (context->GetExecutionPlan(context, &plan)) return 1;
  const TfLiteRegistration registration = {
      .prepare = prepare_node, .invoke = invoke_node, .custom_name = "EdgeTpuDelegateForCustomOp", .version = 1};
  TfLiteIntArray *one = malloc(sizeof(int) * 2);
  one->size = 1;
  int status = 0;
  /* The plan is a copy: it stays as it is while the graph changes. */
  for (int i = 0; i < plan->size && !status; i++) {
    TfLiteNode *node;
    TfLiteRegistration *claimed;
    one->data[0] = plan->data[i];
    status = context->GetNodeAndRegistration(context, one->data[0], &node, &claimed);
    if (!status && claimed->custom_name && !strcmp(claimed->custom_name, "edgetpu-custom-op"))
      status = context->ReplaceNodeSubsetsWithDelegateKernels(context, registration, one, delegate);
  }
  free(one);
  return status;
}

TfLiteDelegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  read_script();
  sleep_ms(script.load_ms);
  if (script.crash_at_load) raise(SIGSEGV);
  /* The real one does not say why either. */
  (void)report;
  if (script.no_device || !device_is_there()) return NULL;
  free(recorded);
  recorded = NULL;
  if (*script.outputs) {
    FILE *file = fopen(script.outputs, "rb");
    if (!file) give_up("the recorded outputs cannot be read");
    fseek(file, 0, SEEK_END);
    recorded_bytes = (size_t)ftell(file);
    rewind(file);
    recorded = malloc(recorded_bytes);
    if (fread(recorded, 1, recorded_bytes, file) != recorded_bytes) give_up("the recorded outputs cannot be read");
    fclose(file);
  }
  if (*script.loads) {
    FILE *file = fopen(script.loads, "a");
    const char *device = "";
    for (size_t i = 0; i < count; i++)
      if (!strcmp(keys[i], "device")) device = values[i];
    if (file) {
      fprintf(file, "%s\n", device);
      fclose(file);
    }
  }
  invokes = 0;
  TfLiteDelegate *delegate = calloc(1, sizeof *delegate);
  delegate->Prepare = prepare;
  /* Without it the runtime prepares the operators first, and does not know this one. */
  delegate->flags = kTfLiteDelegateFlagsAllowDynamicTensors;
  return delegate;
}

void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate) { free(delegate); }
