//! Generated from `wit/`: the types and calls of the contract.

wasmtime::component::bindgen!({
    world: "task",
    path: "../../wit",
    imports: { default: trappable },
    exports: { default: async },
});
