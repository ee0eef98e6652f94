import { TestClock } from "effect/testing"
import * as MemoryRunStore from "../src/MemoryRunStore.ts"
import { runStoreSuite } from "./RunStoreSuite.ts"

runStoreSuite("MemoryRunStore", { layer: MemoryRunStore.layer, advance: TestClock.adjust, live: false })
