"""Every field of onnx.proto (ONNX IR version 13), as plain data; a test compares it with the onnx package."""

from collections.abc import Mapping
from typing import Final

MESSAGES: Final[Mapping[str, Mapping[int, str]]] = {
    "Model": {
        1: "int64 ir_version",
        2: "string producer_name",
        3: "string producer_version",
        4: "string domain",
        5: "int64 model_version",
        6: "string doc_string",
        7: "Graph graph",
        8: "repeated OperatorSetId opset_import",
        14: "repeated StringStringEntry metadata_props",
        20: "repeated TrainingInfo training_info",
        25: "repeated Function functions",
        26: "repeated DeviceConfiguration configuration",
    },
    "OperatorSetId": {
        1: "string domain",
        2: "int64 version",
    },
    "StringStringEntry": {
        1: "string key",
        2: "string value",
    },
    "Graph": {
        1: "repeated Node node",
        2: "string name",
        5: "repeated Tensor initializer",
        10: "string doc_string",
        11: "repeated ValueInfo input",
        12: "repeated ValueInfo output",
        13: "repeated ValueInfo value_info",
        14: "repeated TensorAnnotation quantization_annotation",
        15: "repeated SparseTensor sparse_initializer",
        16: "repeated StringStringEntry metadata_props",
    },
    "Node": {
        1: "repeated string input",
        2: "repeated string output",
        3: "string name",
        4: "string op_type",
        5: "repeated Attribute attribute",
        6: "string doc_string",
        7: "string domain",
        8: "string overload",
        9: "repeated StringStringEntry metadata_props",
        10: "repeated NodeDeviceConfiguration device_configurations",
    },
    "Attribute": {
        1: "string name",
        2: "float f",
        3: "int64 i",
        4: "bytes s",
        5: "Tensor t",
        6: "Graph g",
        7: "repeated float floats",
        8: "repeated int64 ints",
        9: "repeated bytes strings",
        10: "repeated Tensor tensors",
        11: "repeated Graph graphs",
        13: "string doc_string",
        14: "Type tp",
        15: "repeated Type type_protos",
        20: "AttributeType type",
        21: "string ref_attr_name",
        22: "SparseTensor sparse_tensor",
        23: "repeated SparseTensor sparse_tensors",
    },
    "Tensor": {
        1: "repeated int64 dims",
        2: "int32 data_type",
        3: "Segment segment",
        4: "repeated float float_data",
        5: "repeated int32 int32_data",
        6: "repeated bytes string_data",
        7: "repeated int64 int64_data",
        8: "string name",
        9: "bytes raw_data",
        10: "repeated double double_data",
        11: "repeated uint64 uint64_data",
        12: "string doc_string",
        13: "repeated StringStringEntry external_data",
        14: "DataLocation data_location",
        16: "repeated StringStringEntry metadata_props",
    },
    "Segment": {
        1: "int64 begin",
        2: "int64 end",
    },
    "SparseTensor": {
        1: "Tensor values",
        2: "Tensor indices",
        3: "repeated int64 dims",
    },
    "ValueInfo": {
        1: "string name",
        2: "Type type",
        3: "string doc_string",
        4: "repeated StringStringEntry metadata_props",
    },
    "Type": {
        1: "TensorType tensor_type",
        4: "SequenceType sequence_type",
        5: "MapType map_type",
        6: "string denotation",
        7: "OpaqueType opaque_type",
        8: "SparseTensorType sparse_tensor_type",
        9: "OptionalType optional_type",
    },
    "TensorType": {
        1: "int32 elem_type",
        2: "TensorShape shape",
    },
    "SequenceType": {
        1: "Type elem_type",
    },
    "MapType": {
        1: "int32 key_type",
        2: "Type value_type",
    },
    "OptionalType": {
        1: "Type elem_type",
    },
    "SparseTensorType": {
        1: "int32 elem_type",
        2: "TensorShape shape",
    },
    "OpaqueType": {
        1: "string domain",
        2: "string name",
    },
    "TensorShape": {
        1: "repeated Dimension dim",
    },
    "Dimension": {
        1: "int64 dim_value",
        2: "string dim_param",
        3: "string denotation",
    },
    "TensorAnnotation": {
        1: "string tensor_name",
        2: "repeated StringStringEntry quant_parameter_tensor_names",
    },
    "TrainingInfo": {
        1: "Graph initialization",
        2: "Graph algorithm",
        3: "repeated StringStringEntry initialization_binding",
        4: "repeated StringStringEntry update_binding",
    },
    "Function": {
        1: "string name",
        4: "repeated string input",
        5: "repeated string output",
        6: "repeated string attribute",
        7: "repeated Node node",
        8: "string doc_string",
        9: "repeated OperatorSetId opset_import",
        10: "string domain",
        11: "repeated Attribute attribute_proto",
        12: "repeated ValueInfo value_info",
        13: "string overload",
        14: "repeated StringStringEntry metadata_props",
    },
    "DeviceConfiguration": {
        1: "string name",
        2: "int32 num_devices",
        3: "repeated string device",
    },
    "NodeDeviceConfiguration": {
        1: "string configuration_id",
        2: "repeated ShardingSpec sharding_spec",
        3: "int32 pipeline_stage",
    },
    "ShardingSpec": {
        1: "string tensor_name",
        2: "repeated int64 device",
        3: "repeated IntIntListEntry index_to_device_group_map",
        4: "repeated ShardedDim sharded_dim",
    },
    "IntIntListEntry": {
        1: "int64 key",
        2: "repeated int64 value",
    },
    "ShardedDim": {
        1: "int64 axis",
        2: "repeated SimpleShardedDim simple_sharding",
    },
    "SimpleShardedDim": {
        1: "int64 dim_value",
        2: "string dim_param",
        3: "int64 num_shards",
    },
}
"""By message and number: whether it is repeated, its type and its name."""
ONE_OF: Final[Mapping[str, frozenset[int]]] = {
    "Type": frozenset({1, 4, 5, 7, 8, 9}),
    "Dimension": frozenset({1, 2}),
    "SimpleShardedDim": frozenset({1, 2}),
}
"""Fields of a message of which it has one at most."""
ENUMS: Final[Mapping[str, range]] = {"AttributeType": range(15), "DataLocation": range(2)}
"""The values of each enumeration."""
