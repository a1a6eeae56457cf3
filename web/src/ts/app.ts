import "htmx.org";

import { startChanges } from "./change";
import { startConnection } from "./connection";
import { startContainer } from "./container";
import { startCopy } from "./copy";
import { startFleet } from "./fleet";
import { startLive } from "./live";
import { startRealms } from "./realm";
import { startSignIn } from "./signin";
import { startThemeSwitch } from "./themeswitch";

startThemeSwitch();
startSignIn();
startRealms();
startCopy();
// On a phone the pages stand in one line that can be pushed aside: the open one is to be in sight.
document.querySelector(".rail-nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
if (document.getElementById("signed-out")) {
  startConnection();
  startFleet();
  startContainer();
  startChanges();
  startLive();
}
