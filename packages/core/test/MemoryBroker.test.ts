import { TestClock } from "effect/testing"
import * as MemoryBroker from "../src/MemoryBroker.ts"
import { brokerSuite } from "./BrokerSuite.ts"

brokerSuite("MemoryBroker", { layer: MemoryBroker.layer, advance: TestClock.adjust, live: false })
