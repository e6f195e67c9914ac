"""Sums, with a tool that adds. What the calls mean: proto/environment.proto."""
import concurrent.futures, json, sys, grpc
from proto import environment_pb2 as e, environment_pb2_grpc, task_pb2 as t

ADD = t.Tool(name="add", function_json=json.dumps({
    "name": "add", "description": "Adds a and b.", "parameters": {"type":
        "object", "properties": {n: {"type": "integer"} for n in "ab"}}}))
REFUSED = grpc.StatusCode.INVALID_ARGUMENT
truths = {}  # of each episode, which its client and a number name
def truth_of(task):
  try: return str(json.loads(task.payload_json)["answer"])
  except Exception: return ""

def answer(call):  # What the model does wrong is a result, no error.
  try:
    assert call.name == "add" and len(call.arguments_json) < 1000
    a, b = (int(json.loads(call.arguments_json)[name]) for name in "ab")
    return t.ToolResult(content=str(a + b), outcome=t.OUTCOME_OK)
  except Exception as fault:
    return t.ToolResult(content=repr(fault), outcome=t.OUTCOME_TOOL_ERROR)

class Sums(environment_pb2_grpc.EnvironmentHostServicer):
  def Describe(self, request, context):
    return e.DescribeResponse(environments=[e.EnvironmentDescription(
        name="sums", description="a sum, and a tool that adds",
        deterministic=True, reset_ms=10000, step_ms=10000, grade_ms=10000)])
  def Validate(self, request, context, reply=e.ValidateResponse):
    if not request.task.messages or not truth_of(request.task):
      context.abort(REFUSED, 'a task has messages and {"answer": "5"}')
    return reply(messages=request.task.messages, tools=[ADD])
  def Open(self, request, context):
    if len(truths) > 9999: truths.pop(next(iter(truths)))  # its client died
    truths[request.client, request.episode] = truth_of(request.task)
    return self.Validate(request, context, e.OpenResponse)
  def Step(self, request, context):
    if len(request.calls) > 16: context.abort(REFUSED, "more than 16 calls")
    return e.StepResponse(results=[answer(call) for call in request.calls])
  def Grade(self, request, context):
    truth = truths.get((request.client, request.episode))
    if not truth: context.abort(grpc.StatusCode.UNAVAILABLE, "no such episode")
    if not t.OUTCOME_OK <= request.outcome <= t.OUTCOME_TIMEOUT:
      context.abort(REFUSED, "an outcome without reward")
    said = request.transcript[-1].content.strip()[:99]
    if request.outcome != t.OUTCOME_OK: said = ""  # it was cut off
    same = sum(map(str.__eq__, said[::-1], truth[::-1]))  # digits, from the end
    return e.GradeResponse(verdict=t.Verdict(
        outcome=request.outcome, verified=True, answer=said,
        correct=said == truth, scores=[t.VerdictScore(
            name="digits", value=same / max(len(said), len(truth)), weight=1)]))
  def Close(self, request, context):
    truths.pop((request.client, request.episode), None)
    return e.CloseResponse()
  def Hold(self, request, context):
    return e.HoldResponse()

server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=32))
environment_pb2_grpc.add_EnvironmentHostServicer_to_server(Sums(), server)
server.add_insecure_port(sys.argv[1])
server.start()
server.wait_for_termination()
