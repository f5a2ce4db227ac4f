"""The Open Inference Protocol (KServe v2) under `/v2`: REST, with the binary tensor data extension.

A record's fields are the model's inputs, one tensor a field, so that a client sends columns:

- A field's tensor has the field's name and the shape [B] or [B, 1]. Numeric fields take floats and integers; boolean
  fields BOOL and integers 0, 1; categorical fields BYTES (text), or numbers and BOOL, which mean the category that is
  spelled so, as in `POST /score`. A timestamp that fields derive from is BYTES in ISO 8601, in place of them.
- Instead of its fields one by one, a kind may come as one matrix: `numeric` [B, F], `boolean` [B, G], `categorical`
  [B, C], columns in the order of the model's fields, which `config` lists under `parameters`. Integers of the matrix
  `categorical` are codes: 0 unknown, i + 1 the vocabulary's i. A field of such a name goes before the matrix.
- Missing is: a field left out; null in JSON (the bare NaN that some clients write means null too); NaN in a float
  tensor; -1 in an integer tensor of booleans or codes; an empty text in a BYTES tensor, which has no null, unless the
  vocabulary knows an empty text.
- Request parameters: `samples`, `score` and `false_alarm_rate` as in `POST /score`, `timeout` (microseconds until the
  deadline; 0 for none of its own), `binary_data_output`. Others are for servers that have what they speak of, and are
  passed over.

Every refusal is the problem document of the other routes with the member `error`, the sentence that clients of this
protocol read. Answers to `infer` alone are compressed, and only where the client asks: its other calls do not inflate.
"""
